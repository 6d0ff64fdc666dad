"""The agents' loop: our words in, our events out. Everything of pydantic-ai is behind `engine`."""

from infrastructure.loop.lazy import PydanticLoop

__all__ = ["PydanticLoop"]
