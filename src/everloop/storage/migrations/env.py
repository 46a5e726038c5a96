"""Alembic's entry: runs the migrations on the connection that storage.schema hands over."""

from alembic import context

from everloop.storage.columns import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
