"""LM Studio over its WebSockets and over HTTP, whichever parts the server turns out to have."""

from infrastructure.providers.lmstudio.provider import LMStudioProvider

__all__ = ["LMStudioProvider"]
