"""Threads that compute give way to the one that serves everybody.

Those of the engine, that is: a thread that also runs Python would hold the interpreter's lock while others are preferred to it, and
everybody would wait for it.
"""

from __future__ import annotations

import os
import sys
import threading

# Of two threads that want a core, one without it gets three times as much as one with it.
_NICENESS = 5


def give_way() -> None:
    """Lowers the priority of the calling thread, and of threads that it starts, for good.

    On few cores the event loop would otherwise get no more of them than each thread that computes, and requests would wait to be
    read. Only Linux has priorities of single threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        try:
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS))
        except OSError:  # not allowed in this container: then all are alike
            return
