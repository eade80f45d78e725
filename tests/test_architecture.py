"""The house: public names, what importing it costs, and who may import whom."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pairloom

ROOT = Path(__file__).parents[1]


def test_public_names() -> None:
    assert pairloom.__all__ == [
        "Collection",
        "Document",
        "DualEncoder",
        "Encoder",
        "Hit",
        "PairloomError",
        "__version__",
    ]
    for name in pairloom.__all__:
        assert getattr(pairloom, name) is not None
    assert dir(pairloom) == pairloom.__all__
    with pytest.raises(AttributeError, match="has no attribute 'Decoder'"):
        _ = pairloom.Decoder


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after running some code."""
    report = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "pyarrow",
    "lxml",
    "py7zr",
    "scipy",
    "sklearn",
    "ir_measures",
    "matplotlib",
}


@pytest.mark.parametrize(
    "code",
    [
        "import pairloom",
        "import pairloom.cli",
        "import pairloom.models.names, pairloom.models.write, pairloom.recipe",
        "from pairloom.encode import dual_encoder, encoder, vectors, inputs, similarity",
        "from pairloom.search import exact, show",
        "from pairloom.pairs import mixture, prefetch, layout",
        "from pairloom.pairs import configuration, forecast, forecast_report, weights",
    ],
)
def test_importing_is_light(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_the_oracles_are_not_loaded_to_serve_them() -> None:
    loaded = loaded_by("from pairloom import sentence_transformers_data, torch_data")
    assert "torch" in loaded
    assert not loaded & {"transformers", "sentence_transformers", "datasets", "accelerate"}


def test_importing_pairloom_imports_nothing_else() -> None:
    assert not loaded_by("import pairloom") & {"numpy", "pydantic", "rich", "tokenizers", "huggingface_hub"}


def test_layers() -> None:
    """The import-linter contracts of pyproject.toml hold."""
    linter = Path(sys.executable).with_name("lint-imports")
    if not linter.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{pairloom.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_type_marker_and_recipes_are_shipped() -> None:
    package = Path(pairloom.__file__).parent
    assert (package / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/pairloom"]
