"""`lmdesk doctor`: what was found on this machine, what is wrong, and what to do about it."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import anyio
import orjson

from api.settings import PAGE_PORT, Settings
from api.settings_sources import load_settings
from app.commands.logs import configure_logs

if TYPE_CHECKING:
    from api.doctor import Finding

MARKS = {"ok": "ok  ", "note": "note", "attention": "FIX "}
INDENT = " " * 6
WIDTH = 100


def doctor(arguments: Namespace) -> int:
    """0 when LM Desk can work, 1 when something needs attention."""
    given = {key: getattr(arguments, key, None) for key in Settings.model_fields}
    settings = load_settings(given, config=arguments.config, defaults={"port": PAGE_PORT})
    configure_logs("error")

    from api.doctor import examine  # with all adapters behind it

    findings = anyio.run(examine, settings)
    wrong = [finding for finding in findings if finding.state == "attention"]
    if arguments.json:
        body = {"ok": not wrong, "findings": [finding.model_dump() for finding in findings]}
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write(_report(findings, len(wrong)))
    return 1 if wrong else 0


def _report(findings: Sequence["Finding"], wrong: int) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.state]}  {finding.title}: {finding.message}")
        if finding.hint:
            lines.append(fill(finding.hint, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
        # Never wrapped: it is copied.
        lines.extend(f"{INDENT}  {line}" for line in finding.command.splitlines())
    things = "1 thing needs" if wrong == 1 else f"{wrong} things need"
    lines.append(f"\n{things} attention." if wrong else "\nAll is well.")
    return "\n".join(lines) + "\n"
