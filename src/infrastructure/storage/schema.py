"""The tables as the code speaks of them; `migrations` creates them."""

from typing import Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION: Final = "0012"
"""The newest migration. A database that says so needs nothing done to it."""

metadata = MetaData()

chats = Table(
    "chats",
    metadata,
    # SQLite's own row number: the order of birth, and the key of the search index.
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("agent_id", String),
    Column("model_id", String),
    Column("parameters", JSON, nullable=False),
    Column("head_id", String),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
    # No foreign key: a column that was kept is an ordinary chat, and says nothing here.
    Column("comparison_id", String),
)

messages = Table(
    "messages",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("chat_id", String, ForeignKey("chats.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: a cascade down a chain of thousands would hit SQLite's depth limit. The store
    # checks parents itself.
    Column("parent_id", String),
    Column("role", String, nullable=False),
    Column("content", Text, nullable=False),
    Column("reasoning", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("reason", String),
    Column("problem", JSON(none_as_null=True)),
    Column("model", JSON(none_as_null=True)),
    Column("stats", JSON(none_as_null=True)),
    Column("agent_id", String),
    Column("job_id", String),
    Column("created_at", Float, nullable=False),
)

loads = Table(
    "loads",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("model_id", String, nullable=False),
    Column("context_length", Integer),
    Column("seconds", Float, nullable=False),
    # One figure a GPU.
    Column("gpu_bytes", JSON, nullable=False),
    Column("ram_bytes", Integer),
    Column("at", Float, nullable=False),
)

flights = Table(
    "flights",
    metadata,
    Column("message_id", String, ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    # JSON, compressed.
    Column("record", LargeBinary, nullable=False),
)

load_settings = Table(
    "load_settings",
    metadata,
    Column("model_id", String, primary_key=True),
    Column("options", JSON, nullable=False),
)

speeds = Table(
    "speeds",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("model_id", String, nullable=False),
    Column("context_length", Integer),
    Column("prompt_tokens", Integer),
    Column("prompt_tokens_per_second", Float),
    Column("output_tokens", Integer),
    Column("tokens_per_second", Float),
    Column("first_token_seconds", Float),
    # `answer` or `benchmark`.
    Column("source", String, nullable=False),
    Column("at", Float, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    # What a text is to a model, as a digest.
    Column("key", LargeBinary, primary_key=True),
    # 32-bit floats.
    Column("vector", LargeBinary, nullable=False),
    Column("used_at", Float, nullable=False),
)

message_vectors = Table(
    "message_vectors",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("message_id", String, ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    # Which model made it: only vectors of the same one can be compared.
    Column("space", String, nullable=False),
    # 32-bit floats; NULL for a text that the model cannot take.
    Column("vector", LargeBinary),
    UniqueConstraint("message_id", "space"),
)

agents = Table(
    "agents",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("agent", JSON, nullable=False),
    Column("deleted", Boolean, nullable=False),
    UniqueConstraint("id", "version"),
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    # No foreign key: a purge takes the runs of chats that are gone, see `SqlRuns.purge_runs`.
    Column("chat_id", String),
    Column("state", String, nullable=False),
    # JSON of the whole run.
    Column("record", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    # Where the state says so.
    Column("deleted_at", Float),
)

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", String, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # JSON; neighbouring deltas are merged, under the number of the last one.
    Column("data", Text, nullable=False),
)

run_results = Table(
    "run_results",
    metadata,
    Column("run_id", String, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("call_id", String, primary_key=True),
    # JSON, compressed.
    Column("result", LargeBinary, nullable=False),
)

allowed_tools = Table(
    "allowed_tools",
    metadata,
    Column("server", String, primary_key=True),
    # Empty for all of the server's.
    Column("tool", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("at", Float, nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("recipe", JSON, nullable=False),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    # All of it, as the core has it.
    Column("record", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted_at", Float),
)
