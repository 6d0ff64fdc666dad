"""When a run was deleted: it can be brought back for an hour, whatever is started anew meanwhile."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("deleted_at", sa.Float))
    # Nobody wrote down when; some of them perhaps a moment ago.
    op.execute(
        "UPDATE runs SET deleted_at = CAST(strftime('%s', 'now') AS REAL) WHERE state = 'deleted'"
    )


def downgrade() -> None:
    op.drop_column("runs", "deleted_at")
