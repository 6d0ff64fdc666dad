"""The `lmdesk` command: reads the command line, runs it, and ends with a sentence and a status."""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from app.commands.arguments import build_parser
from core.errors import DeskError

BAD_USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """0: ended as asked. 1: something needs attention. 2: it could not start, with a sentence why."""
    arguments = build_parser().parse_args(argv)
    try:
        return _command(arguments.command or "serve")(arguments)
    except DeskError as error:
        sys.stderr.write(f"lmdesk: {error.message} {error.hint}".rstrip() + "\n")
        return BAD_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


def _command(name: str) -> Callable[[Namespace], int]:
    """Imported one by one: `lmdesk --help` needs no web server."""
    if name == "engine":
        from app.commands.engine import engine

        return engine
    if name == "doctor":
        from app.commands.doctor import doctor

        return doctor
    if name == "mcp":
        from app.commands.mcp import mcp

        return mcp
    from app.commands import serve

    return {"serve": serve.serve, "api": serve.api, "gui": serve.gui}[name]
