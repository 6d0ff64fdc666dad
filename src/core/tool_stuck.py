"""A tool server that no longer answers: how that is found out, and what is said of it."""

import asyncio

from core.errors import ToolError, ToolServerFailed, ToolTimeout
from core.tool_server import ToolSession

ANSWER_SECONDS = 5.0
"""A program that says nothing for so long after a call was given up is stuck in it."""
_ANEW_HINT = "The next use starts it anew. Its log, under Tools, may say what it is stuck in."


async def answers(session: ToolSession) -> bool:
    """Whether anything comes back from it soon, if only an error."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await session.tools()
    except (TimeoutError, ToolTimeout):
        return False
    except ToolError:
        return not session.ended
    return True


def stuck(server: str) -> ToolServerFailed:
    """What is said of one that was ended for it."""
    return ToolServerFailed(
        f"The tool server {server} was stuck in a call that was given up, so it was ended.",
        hint=_ANEW_HINT,
    )


def not_listed(error: ToolTimeout, *, busy: bool) -> ToolTimeout:
    """What is said of one that did not list its tools: it is ended unless other calls work there."""
    if busy:
        hint = "It works on other calls. Wait for their end, or press Restart under Tools."
        return ToolTimeout(error.message, hint=hint)
    return ToolTimeout(f"{error.message} So it was ended.", hint=_ANEW_HINT)
