"""``python -m pairloom``."""

from pairloom.cli import main

main()
