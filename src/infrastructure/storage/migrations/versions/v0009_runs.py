"""Runs of agents, what happened in them, what their calls gave back, and what people let run."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("chat_id", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
    )
    op.create_index("runs_by_chat", "runs", ["chat_id", "seq"])
    for name, column in (
        ("run_events", sa.Column("number", sa.Integer, primary_key=True)),
        ("run_results", sa.Column("call_id", sa.String, primary_key=True)),
    ):
        op.create_table(
            name,
            sa.Column(
                "run_id",
                sa.String,
                sa.ForeignKey("runs.id", ondelete="CASCADE"),
                primary_key=True,
            ),
            column,
            sa.Column("data", sa.Text, nullable=False)
            if name == "run_events"
            else sa.Column("result", sa.LargeBinary, nullable=False),
        )
    op.create_table(
        "allowed_tools",
        sa.Column("server", sa.String, primary_key=True),
        sa.Column("tool", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    for name in ("allowed_tools", "run_results", "run_events", "runs"):
        op.drop_table(name)
