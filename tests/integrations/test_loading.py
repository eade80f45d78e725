"""Nobody loads these modules but who asks for them, and who asks without the framework is told what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_light import loaded_by, packages

FRAMEWORKS = {"langchain_core", "mteb", "haystack"}


def test_neither_importing_nor_encoding_loads_a_framework(model_folder: Path, tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    (file := tmp_path / "texts.txt").write_text("a text\nanother\n")
    words = ["pairloom", "encode", str(model_folder), str(file), "--device", "cpu"]
    loaded = loaded_by(
        f"import sys\nsys.argv = {words!r}\nimport pairloom\nfrom pairloom.cli import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code",
        home,
    )
    assert not packages(loaded) & FRAMEWORKS
    assert not [name for name in loaded if name.startswith("pairloom.integrations")]


@pytest.mark.parametrize(
    ("module", "framework", "sentence"),
    [
        (
            "langchain",
            "langchain_core",
            "needs langchain-core, which is not installed: pip install 'pairloom[langchain]'",
        ),
        ("mteb", "mteb", "needs mteb 2.10 or newer, which is not installed: pip install 'pairloom[mteb]'"),
        ("haystack", "haystack", "needs haystack-ai, which is not installed: pip install 'pairloom[haystack]'"),
    ],
)
def test_without_the_framework_a_sentence_says_what_to_install(module: str, framework: str, sentence: str) -> None:
    code = (
        f"import sys\nsys.modules[{framework!r}] = None\nfrom pairloom.errors import MissingExtraError\n"
        f"try:\n    import pairloom.integrations.{module}\nexcept MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert sentence in done.stdout, done.stderr
