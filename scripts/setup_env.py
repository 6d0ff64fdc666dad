"""Makes .venv hold exactly the locked dependencies and LM Desk itself. Quick when it already does.

python scripts/setup_env.py run|dev      needs nothing but the standard library
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}


def main() -> int:
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    # What runs the tests runs the program: a fresh dev environment serves both.
    kinds = ["dev"] if kind == "dev" else ["run", "dev"]
    if any(is_fresh(each) for each in kinds):
        return 0
    if not has_venv() and not make_venv():
        return 1
    lock = LOCKS[kind]
    count = sum(line[:1].isalnum() for line in (ROOT / lock).read_text().splitlines())
    say(f"installing up to {count} packages of {lock}, once; this takes a minute or two …")
    started = time.monotonic()
    for stamp in VENV.glob(".lmdesk-*"):
        stamp.unlink()
    locked = ["--require-hashes", "--no-deps", "-r", lock]
    if not pip("install", *locked) or not pip("install", "--no-deps", "-e", "."):
        say(
            "the packages could not be installed; pip says why above. Run it again when that is "
            "mended: what is already there is kept."
        )
        return 1
    stamp_of(kind).write_text(fingerprint(kind))
    say(f"ready after {time.monotonic() - started:.0f} s.")
    return 0


def say(sentence: str) -> None:
    print(f"LM Desk: {sentence}", file=sys.stderr, flush=True)


def stamp_of(kind: str) -> Path:
    return VENV / f".lmdesk-{kind}"


def fingerprint(kind: str) -> str:
    """Changes when the environment must be made anew."""
    digest = hashlib.sha256(f"{ROOT} {sys.version}".encode())
    for name in (LOCKS[kind], "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_fresh(kind: str) -> bool:
    stamp = stamp_of(kind)
    return stamp.is_file() and stamp.read_text() == fingerprint(kind) and PYTHON.exists()


def has_venv() -> bool:
    """Whether there is one that works, and is of this Python."""
    if not PYTHON.exists():
        return False
    ask = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=False)
    return answer.stdout.strip() == "{}.{}".format(*sys.version_info[:2])


def make_venv() -> bool:
    if importlib.util.find_spec("ensurepip") is None:
        version = "{}.{}".format(*sys.version_info[:2])
        say(
            f"this Python {version} lacks its venv part. On Debian and Ubuntu: "
            f"apt install python3-venv (or python{version}-venv)."
        )
        return False
    say(f"making .venv with Python {sys.version.split()[0]} …")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=False)
    if made.returncode:
        say("the environment in .venv could not be made; the reason is above.")
    return made.returncode == 0


def pip(*arguments: str) -> bool:
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("stopped. Run it again to go on.")
        sys.exit(130)
