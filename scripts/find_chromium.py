"""Prints the Chromium the page's tests use, bringing one if need be. Prints nothing if there is none.

Taken in this order: LMDESK_TEST_CHROMIUM, one that is installed, Playwright's own, Debian's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DOWNLOAD_SECONDS = 180
APT_SECONDS = 600


def main() -> int:
    for find in (named, installed, playwrights, downloaded, debians):
        path = find()
        if path:
            print(path)
            return 0
    say(
        "there is no Chromium here, so the tests of the page are skipped. Install Chromium, or set "
        "LMDESK_TEST_CHROMIUM to one."
    )
    return 0


def say(sentence: str) -> None:
    print(f"LM Desk: {sentence}", file=sys.stderr, flush=True)


def named() -> str | None:
    return os.environ.get("LMDESK_TEST_CHROMIUM") or None


def installed() -> str | None:
    return next(filter(None, map(shutil.which, INSTALLED)), None)


def playwrights() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def downloaded() -> str | None:
    say(f"fetching Chromium for the tests of the page (at most {DOWNLOAD_SECONDS} s) …")
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    return playwrights() if ran(command, DOWNLOAD_SECONDS) else None


def debians() -> str | None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    say("that did not work; installing Debian's Chromium …")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    ran(["apt-get", "update", "-qq"], APT_SECONDS, quiet)
    ran(["apt-get", "install", "-y", "-qq", "chromium"], APT_SECONDS, quiet)
    return installed()


def ran(command: list[str], seconds: int, extra: dict[str, str] | None = None) -> bool:
    """Whether it ended well in time; its output goes to stderr, the path alone to stdout."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, **(extra or {})},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        say(f"`{command[0]}` took longer than {seconds} s and was ended.")
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
