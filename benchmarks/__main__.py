"""Runs the benchmarks: `make bench`, or `python -m benchmarks NAME [--help]`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> None:
    wanted = sys.argv[1:2] or NAMES
    for name in wanted:
        if name not in NAMES:
            sys.exit(f"no benchmark {name}; these are: {', '.join(NAMES)}")
        print(f"== {name}", flush=True)
        sys.argv = [f"benchmarks.{name}", *sys.argv[2:]]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
