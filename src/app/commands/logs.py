"""Logging: everything to stderr, one line an event, structlog's and the libraries' alike."""

import asyncio
import logging
import sys

import structlog

from api.log_level import set_log_level


def configure_logs(level: str) -> None:
    """Send all logs from `level` up to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    # The other formatters print local variables, where prompts and tokens are.
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    set_log_level(level)
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what uvicorn says when it cuts the streams of an open page, as it was told to."""
    kind = record.exc_info[0] if isinstance(record.exc_info, tuple) else None
    cut = kind is not None and issubclass(kind, asyncio.CancelledError)
    return not cut and not str(record.msg).startswith("Cancel %s running task")
