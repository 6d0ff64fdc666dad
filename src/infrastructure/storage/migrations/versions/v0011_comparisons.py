"""Comparisons, a row each, and which chats are their columns."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "comparisons",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("record", sa.JSON, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("deleted_at", sa.Float),
    )
    op.add_column("chats", sa.Column("comparison_id", sa.String))
    op.drop_index("chats_by_age", "chats")
    # The list of chats shows no columns; with them in the index it is still read from it alone.
    op.create_index("chats_by_age", "chats", ["deleted_at", "comparison_id", "updated_at", "seq"])


def downgrade() -> None:
    op.drop_index("chats_by_age", "chats")
    op.drop_column("chats", "comparison_id")
    op.create_index("chats_by_age", "chats", ["deleted_at", "updated_at", "seq"])
    op.drop_table("comparisons")
