"""What loads took on this machine: seconds and memory."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "loads",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("context_length", sa.Integer),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("gpu_bytes", sa.JSON, nullable=False),
        sa.Column("ram_bytes", sa.Integer),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("loads_by_model", "loads", ["model_id", "seq"])


def downgrade() -> None:
    op.drop_table("loads")
