"""Pairloom's command line with another budget of the scheduler, which is no setting: `python -m benchmarks._serve_tuned 512 serve …`."""

from __future__ import annotations

import sys
from types import FunctionType

from pairloom.cli import main
from pairloom.serve.scheduler import Scheduler

if __name__ == "__main__":
    made: object = Scheduler.__init__
    assert isinstance(made, FunctionType)
    made.__kwdefaults__ = {**(made.__kwdefaults__ or {}), "micro_batch_tokens": int(sys.argv.pop(1))}
    main()
