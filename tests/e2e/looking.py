"""What a page looks like, measured: what sticks out, how large its targets are, what axe finds."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# What sticks out to a side and cannot be reached by scrolling there. Text cut with an ellipsis is
# meant; what else a parent hides is lost to the reader.
STICKING_OUT = """() => {
    const excused = (node) => {
        for (let box = node; box && box !== document.body; box = box.parentElement) {
            const style = getComputedStyle(box);
            if (box !== node && ['auto', 'scroll'].includes(style.overflowX)) return true;
            if (box !== node && style.textOverflow === 'ellipsis') return true;
            if (style.overflowX === 'hidden' && box.offsetWidth <= 1) return true; // for the ear alone
        }
        return false;
    };
    const found = [...document.body.querySelectorAll('*')].filter((node) => {
        const { left, right, width, height } = node.getBoundingClientRect();
        if (!width || !height || (left >= -1 && right <= innerWidth + 1)) return false;
        return node.checkVisibility({ visibilityProperty: true }) && !excused(node);
    }).map((node) => node.outerHTML.slice(0, 120));
    const wide = document.scrollingElement.scrollWidth;
    return wide > innerWidth + 1 ? [`the page is ${wide} wide`, ...found] : found;
}"""

# Name, width and height of everything that can be pressed and is seen.
TARGETS = """(within) => [...document.querySelectorAll(within)].flatMap((place) =>
    [...place.querySelectorAll('button, input, textarea, select, a[href], [role=button]')])
    .filter((node) => node.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
    .map((node) => {
        const { width, height } = node.getBoundingClientRect();
        const named = document.getElementById(node.getAttribute('aria-labelledby'))?.innerText;
        const name = node.ariaLabel ?? named ?? node.labels?.[0]?.innerText ?? node.innerText;
        return { name: name.trim().slice(0, 60), width, height };
    }).filter(({ width, height }) => width > 1 && height > 1)"""

# What moves for a moment has its last colours; what breathes stands still.
AT_REST = """() => document.getAnimations().forEach((each) => {
    try { each.finish(); } catch { each.cancel(); }
})"""


def sticking_out(page: Page) -> list[str]:
    """The parts that are wider than the window, as the beginnings of their HTML."""
    page.evaluate(AT_REST)
    return list(page.evaluate(STICKING_OUT))


def targets(page: Page, within: str = "body") -> list[dict[str, Any]]:
    """What can be pressed below this selector: its name, width and height in CSS pixels."""
    return list(page.evaluate(TARGETS, within))


def accessibility_problems(page: Page, *rules: str) -> str:
    """What axe-core finds against all its rules, or these alone, in words; empty if nothing."""
    page.evaluate(AT_REST)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = Axe().run(page, options=options)
    return str(found.generate_report()) if found.violations_count else ""
