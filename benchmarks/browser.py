"""Chromium for measurements: the real page in a browser of our own, and what that browser costs."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WINDOW = {"width": 1440, "height": 900}


def chromium_path() -> str | None:
    """The system's Chromium; None for the one Playwright brings."""
    return os.environ.get("LMDESK_TEST_CHROMIUM") or shutil.which("chromium")


@contextmanager
def chromium() -> Generator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_at(browser: Browser, url: str) -> Generator[Page]:
    """A page that has begun to open this address, in a profile of its own."""
    context = browser.new_context(viewport=WINDOW)  # type: ignore[arg-type]
    try:
        page = context.new_page()
        page.goto(url, wait_until="commit")
        yield page
    finally:
        context.close()


def wait_for_composer(page: Page, *, seconds: float = 60.0) -> None:
    """Return when a person can write."""
    page.get_by_role("textbox", name="Message").wait_for(state="visible", timeout=seconds * 1000)


def browser_cpu_seconds() -> float:
    """User and system time of every process under ours that is a Chromium."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                used = process.cpu_times()
                total += used.user + used.system
        except psutil.NoSuchProcess:
            continue
    return total
