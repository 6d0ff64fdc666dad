"""Conversations in a database: `open_store` opens it, `sqlite_url` says where it lies by default."""

from infrastructure.storage.opening import open_store, sqlite_url
from infrastructure.storage.store import SqlChatStore

__all__ = ["SqlChatStore", "open_store", "sqlite_url"]
