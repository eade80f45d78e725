"""How far a server is."""

from __future__ import annotations

from typing import Literal

Phase = Literal["starting", "ready", "draining"]


class Readiness:
    """How far a server is: it starts, is ready as soon as its models are warm, and drains when it was asked to end."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
