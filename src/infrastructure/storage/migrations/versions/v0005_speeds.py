"""How fast models read and wrote on this machine."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "speeds",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("context_length", sa.Integer),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("prompt_tokens_per_second", sa.Float),
        sa.Column("output_tokens", sa.Integer),
        sa.Column("tokens_per_second", sa.Float),
        sa.Column("first_token_seconds", sa.Float),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("speeds_by_model", "speeds", ["model_id", "context_length", "seq"])


def downgrade() -> None:
    op.drop_table("speeds")
