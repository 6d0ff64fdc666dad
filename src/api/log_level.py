"""How much is logged; it can change while LM Desk runs."""

import logging

# They say more than anybody wants to know, unless everything is wanted.
CHATTY = (
    "uvicorn",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "mcp",
    "openai",
    "asyncio",
    "aiosqlite",
    "alembic",
    "gradio",
)


def set_log_level(level: str) -> None:
    """Log from `level` up: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
    chatty = logging.DEBUG if level == "debug" else logging.WARNING
    for name in CHATTY:
        logging.getLogger(name).setLevel(chatty)
