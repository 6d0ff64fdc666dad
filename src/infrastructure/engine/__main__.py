"""`python -m infrastructure.engine`: the engine as a program."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import SecretStr

from infrastructure.engine import quirks
from infrastructure.engine.config import EngineConfig
from infrastructure.engine.server import run

TOKEN_VARIABLE: Final = "LMDESK_ENGINE_TOKEN"
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, and serve until told to end."""
    given = _parser().parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(given.log_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The other formatters print local variables, where prompts and tokens are.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
    )
    token = given.token or os.environ.pop(TOKEN_VARIABLE, None)
    run(
        EngineConfig(
            host=given.host,
            port=given.port,
            models_dirs=tuple(given.models),
            shared_folders=not given.only_models,
            data_dir=given.data_dir,
            starter=not given.no_starter,
            profile=given.profile,
            token=SecretStr(token) if token else None,
            memory_budget=given.memory_budget,
            just_in_time=not given.no_just_in_time,
            keep_only_last=not given.no_auto_evict,
            quirks=(quirks.DEFAULT | set(given.quirk)) - set(given.without_quirk),
            threads=given.threads,
            parent=given.parent,
            announce=given.announce,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infrastructure.engine",
        description="Serves GGUF models with LM Studio's API.",
        epilog="for tests, LM Studio's known quirks:\n" + quirks.explained(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=1234, help="0 picks a free one (default: %(default)s)")
    add("--models", type=Path, action="append", default=[], metavar="DIR", help="may be repeated")
    add("--only-models", action="store_true", help="look nowhere else for models")
    add("--data-dir", type=Path, help="where a fetched starter model is kept")
    add("--no-starter", action="store_true", help="do not offer the starter model")
    add("--profile", choices=("0.4", "0.3"), default="0.4")
    add("--token", help=f"better given as {TOKEN_VARIABLE}, which other users cannot see")
    add("--memory-budget", type=_bytes, metavar="BYTES", help="such as 8G")
    add("--no-just-in-time", action="store_true", help="a request loads nothing by itself")
    add("--no-auto-evict", action="store_true", help="a load on demand leaves the others alone")
    quirk: dict[str, Any] = {"choices": quirks.NAMES, "action": "append", "default": []}
    add("--quirk", metavar="NAME", help="play it; may be repeated", **quirk)
    add("--without-quirk", metavar="NAME", help="leave it; may be repeated", **quirk)
    add("--threads", type=int)
    add("--announce", action="store_true", help="write the URL to stdout, end with stdin")
    add("--parent", type=int, metavar="PID", help="end when this process is no longer the parent")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 8G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


if __name__ == "__main__":
    main()
