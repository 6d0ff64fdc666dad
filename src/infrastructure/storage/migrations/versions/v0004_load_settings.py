"""How each model is to be loaded."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "load_settings",
        sa.Column("model_id", sa.String, primary_key=True),
        sa.Column("options", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("load_settings")
