"""What Alembic runs: our migrations, inside the connection and transaction it is handed."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
