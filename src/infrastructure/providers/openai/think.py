"""The splitter of thinking and answer, where OpenAI's wire looks for it."""

from infrastructure.think import ThinkSplitter, Told

__all__ = ["ThinkSplitter", "Told"]
