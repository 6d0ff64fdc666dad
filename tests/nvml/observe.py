"""Run by tests in a process of its own: sample the machine in one stub setting after another.

Arguments: the stub's settings file, and a JSON list of steps {"settings", "at", "samples", "until",
"patience", "close", "container"}. Prints one JSON line a step with its last sample and the seconds that took.
"""

import json
import sys
import time
from pathlib import Path
from tempfile import gettempdir

from infrastructure.hardware import MachineProbe


def main() -> None:
    settings, steps = Path(sys.argv[1]), json.loads(sys.argv[2])
    now = 0.0
    probe = MachineProbe(
        Path(gettempdir()),
        clock=lambda: now,
        patience_seconds=steps[0]["patience"],
        # Where this test runs the numbers may be of a container, which the stand-in knows nothing of.
        host_numbers=not steps[0]["container"],
    )
    for step in steps:
        now = step["at"]
        settings.write_text(step["settings"])
        deadline = time.monotonic() + 60
        taken, state = 0, ""
        while taken < step["samples"] or (step["until"] not in ("", state)):
            began = time.monotonic()
            sample = probe.sample()
            seconds = time.monotonic() - began
            taken, state = taken + 1, sample.driver.state
            if began > deadline:
                break
        if step["close"]:
            probe.close()
        line = {"seconds": seconds, "sample": json.loads(sample.model_dump_json())}
        sys.stdout.write(json.dumps(line) + "\n")
    probe.close()


main()
