"""Ends tool servers whose LM Desk was killed: a program of its own, told of each one.

It reads `+pid` and `-pid` lines, and at their end, which comes when LM Desk is gone however it
went, ends what is left: each server leads a process group, so its children end with it.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 2.0


def main() -> None:
    """Read until nobody writes any more, then tidy up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        number = int(line[1:])
        if line[:1] == b"+":
            groups.add(number)
        else:
            groups.discard(number)
    # Well-behaved servers end by themselves once nobody talks to them.
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            for group in groups:
                _signal(group, sign)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            groups = {group for group in groups if _signal(group, 0)}
            if not groups:
                return
            time.sleep(0.05)


def _signal(group: int, sign: int) -> bool:
    """Whether there was anybody to get it."""
    try:
        os.killpg(group, sign)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
