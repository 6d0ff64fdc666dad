"""The splitter of thinking and answer, where OpenAI's wire looks for it."""

from infrastructure.think import ThinkSplitter

__all__ = ["ThinkSplitter"]
