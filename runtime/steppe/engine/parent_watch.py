"""End this process when its parent process ends.

vLLM runs its engine core in a child process. When the parent is killed with SIGKILL the
child stays, and keeps its memory and its GPU. A scheduler class is loaded inside that
child, so the watch can start there.
"""

from __future__ import annotations

import os
import signal
import threading
import time

PERIOD_S = 0.5
GRACE_S = 5.0


def watch_parent(period_s: float = PERIOD_S) -> None:
    """Start a thread that ends this process soon after its parent."""
    parent = os.getppid()

    def watch() -> None:
        # An orphan gets a new parent; waiting for a signal would need Linux-only calls.
        while os.getppid() == parent:
            time.sleep(period_s)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
