"""openvino is imported without its converter, which whoever asks for it gets all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


def run(code: str, home: Path, **environment: str) -> str:
    outside_ci = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**outside_ci, "HOME": str(home), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_is_left_in_the_home_folder_and_no_telemetry_is_loaded(tmp_path: Path) -> None:
    code = "from pairloom.encode.quiet_openvino import openvino; openvino.Core()\n"
    assert run(f"{code}print([name for name in sys.modules if 'telemetry' in name])", tmp_path) == "[]"
    assert list(tmp_path.iterdir()) == []


def test_the_converter_is_there_for_who_asks_for_it(tmp_path: Path) -> None:
    code = "from pairloom.encode.quiet_openvino import openvino; import openvino as same; assert same is openvino\n"
    assert run(f"{code}print(openvino.convert_model.__name__)", tmp_path, CI="true") == "convert_model"
    code += "from openvino.tools.ovc import convert_model\nprint(openvino.convert_model is convert_model)"
    assert run(code, tmp_path, CI="true") == "True"


def test_other_names_are_still_missing(tmp_path: Path) -> None:
    code = "from pairloom.encode.quiet_openvino import openvino\nprint(hasattr(openvino, 'nothing_of_this_name'))"
    assert run(code, tmp_path) == "False"


def test_openvino_that_is_imported_already_stays_as_it_is(tmp_path: Path) -> None:
    code = "import openvino\nfrom pairloom.encode import quiet_openvino\n"
    code += "print('convert_model' in vars(openvino), '__getattr__' in vars(openvino))"
    assert run(code, tmp_path, CI="true") == "True False"
