"""Who only encodes loads next to nothing: what a fresh interpreter has imported by the time it has a vector."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HEAVY = {
    *("torch", "transformers", "sentence_transformers", "tensorflow", "jax", "onnxruntime"),
    *("pyarrow", "pandas", "datasets", "scipy", "sklearn", "ir_measures", "matplotlib", "lxml", "py7zr"),
    *("faiss", "qdrant_client"),
}
# What other commands need, and what openvino brings along and would tell others with.
NEEDLESS = {"pydantic", "huggingface_hub", "rich", "jaxtyping", "openvino_telemetry"}

STUB = """
import numpy, pairloom.encode.encoder
class Engine:
    precision = "float32"
    def __init__(self, model, **options): self.dimensions = model.dimensions
    def embed(self, tokens, *, skip_tokens=0): return numpy.ones((len(tokens), self.dimensions), numpy.float32)
pairloom.encode.encoder.make_engine = Engine
"""
"""All but the engine: what computes is put in its place."""

OPENVINO = pytest.param(
    "",
    id="openvino",
    marks=pytest.mark.skipif(
        find_spec("pairloom.encode.openvino_engine") is None or find_spec("openvino") is None,
        reason="there is no openvino engine here, and torch's loads torch",
    ),
)


def loaded_by(code: str, home: Path) -> set[str]:
    """The modules that a fresh interpreter has after running some code, far from CI, in a home that it must leave empty."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    report = f"{code}\nimport sys; print('loaded', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
    return set(done.stdout.splitlines()[-1].split()[1:])


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_importing_pairloom_loads_nothing_but_itself_and_the_standard_library(home: Path) -> None:
    loaded = packages(loaded_by("import pairloom", home)) - packages(loaded_by("", home))
    assert loaded - set(sys.stdlib_module_names) == {"pairloom"}


@pytest.mark.parametrize("engine", [pytest.param(STUB, id="any engine"), OPENVINO])
def test_from_import_to_vector(engine: str, model_folder: Path, home: Path) -> None:
    loaded = loaded_by(
        f"{engine}\n"
        "from pairloom import Encoder\n"
        f"encoder = Encoder({str(model_folder)!r}, device='cpu')\n"
        "vectors = encoder.encode(['a text', 'another'])\n"
        "assert vectors.shape == (2, encoder.dimensions)\n"
        "encoder.similarity(encoder.encode_query('a'), encoder.encode_document('b'))\n"
        "encoder.fingerprint",
        home,
    )
    assert packages(loaded) & (HEAVY | NEEDLESS) == set()
    assert "openvino.tools" not in loaded


@pytest.mark.parametrize("engine", [pytest.param(STUB, id="any engine"), OPENVINO])
def test_from_the_command_line_to_a_vector(engine: str, model_folder: Path, tmp_path: Path, home: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("a text\nanother\n")
    for options in ([], ["--out", str(tmp_path / "vectors"), "--quiet"]):
        words = ["pairloom", "encode", str(model_folder), str(file), "--device", "cpu", *options]
        loaded = loaded_by(
            f"{engine}\nimport sys\nsys.argv = {words!r}\nfrom pairloom.cli import main\n"
            "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code",
            home,
        )
        # A summary in words is rich's.
        assert packages(loaded) & (HEAVY | NEEDLESS - ({"rich"} if options else set())) == set()
        assert "openvino.tools" not in loaded
