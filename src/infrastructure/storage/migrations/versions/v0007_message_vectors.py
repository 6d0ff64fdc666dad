"""What was said as vectors, for finding chats by what was meant."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "message_vectors",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column(
            "message_id",
            sa.String,
            sa.ForeignKey("messages.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("vector", sa.LargeBinary),
        sa.UniqueConstraint("message_id", "space"),
    )
    op.create_index("message_vectors_by_space", "message_vectors", ["space", "seq"])


def downgrade() -> None:
    op.drop_table("message_vectors")
