"""Chats, their messages, and the full-text index that triggers keep in step."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# One index for both kinds of text: even row numbers are messages, odd ones are titles. Triggers keep
# it, so no way of ending a message can forget to. A message being written is not indexed: its text
# changes four times a second.
SEARCH = (
    """
    CREATE VIRTUAL TABLE search USING fts5(
        text, chat_id UNINDEXED, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
    )
    """,
    """
    CREATE TRIGGER messages_born AFTER INSERT ON messages WHEN new.status <> 'writing' BEGIN
        INSERT INTO search (rowid, text, chat_id) VALUES (new.seq * 2, new.content, new.chat_id);
    END
    """,
    """
    CREATE TRIGGER messages_finished AFTER UPDATE OF content, status ON messages
    WHEN new.status <> 'writing' BEGIN
        DELETE FROM search WHERE rowid = new.seq * 2;
        INSERT INTO search (rowid, text, chat_id) VALUES (new.seq * 2, new.content, new.chat_id);
    END
    """,
    """
    CREATE TRIGGER messages_gone AFTER DELETE ON messages BEGIN
        DELETE FROM search WHERE rowid = old.seq * 2;
    END
    """,
    """
    CREATE TRIGGER chats_born AFTER INSERT ON chats WHEN new.title <> '' BEGIN
        INSERT INTO search (rowid, text, chat_id) VALUES (new.seq * 2 + 1, new.title, new.id);
    END
    """,
    """
    CREATE TRIGGER chats_renamed AFTER UPDATE OF title ON chats WHEN new.title <> old.title BEGIN
        DELETE FROM search WHERE rowid = new.seq * 2 + 1;
        INSERT INTO search (rowid, text, chat_id) VALUES (new.seq * 2 + 1, new.title, new.id);
    END
    """,
    """
    CREATE TRIGGER chats_gone AFTER DELETE ON chats BEGIN
        DELETE FROM search WHERE rowid = old.seq * 2 + 1;
    END
    """,
)


def upgrade() -> None:
    op.create_table(
        "chats",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("agent_id", sa.String),
        sa.Column("model_id", sa.String),
        sa.Column("parameters", sa.JSON, nullable=False),
        sa.Column("head_id", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("deleted_at", sa.Float),
    )
    op.create_index("chats_by_age", "chats", ["deleted_at", "updated_at", "seq"])
    op.create_table(
        "messages",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column(
            "chat_id", sa.String, sa.ForeignKey("chats.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("parent_id", sa.String),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("problem", sa.JSON),
        sa.Column("model", sa.JSON),
        sa.Column("stats", sa.JSON),
        sa.Column("agent_id", sa.String),
        sa.Column("job_id", sa.String),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    # With the ids in them, the shape of a tree is read from the indexes alone.
    op.create_index("messages_by_chat", "messages", ["chat_id", "seq", "id", "parent_id"])
    op.create_index("messages_by_parent", "messages", ["chat_id", "parent_id", "seq", "id"])
    op.create_index(
        "messages_writing", "messages", ["chat_id"], sqlite_where=sa.text("status = 'writing'")
    )
    for statement in SEARCH:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("search")
    op.drop_table("messages")
    op.drop_table("chats")
