"""LM Studio over HTTP: /v1, /api/v0 and /api/v1, whichever the server turns out to have."""

from infrastructure.providers.lmstudio.provider import LMStudioProvider

__all__ = ["LMStudioProvider"]
