from __future__ import annotations

import os
import select
import subprocess
import sys

# The grandchild inherits the pipe, so its end shows as the end of the stream.
CHILD = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", '''
import sys, threading
from steppe.engine.parent_watch import watch_parent
watch_parent(period_s=0.02)
print("watching", flush=True)
threading.Event().wait(30)
'''])
sys.stdin.read()
"""


def test_a_process_ends_soon_after_the_one_that_started_it() -> None:
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"watching\n"
        child.kill()
        assert select.select([child.stdout], [], [], 10)[0]
        assert os.read(child.stdout.fileno(), 1) == b""
