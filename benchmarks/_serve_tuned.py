"""Pairloom's command line with another budget of the scheduler, which is no setting: `python -m benchmarks._serve_tuned 512 serve …`."""

from __future__ import annotations

import sys

from pairloom.cli import main
from pairloom.serve import scheduler

if __name__ == "__main__":
    scheduler.MICRO_BATCH_TOKENS = int(sys.argv.pop(1))
    main()
