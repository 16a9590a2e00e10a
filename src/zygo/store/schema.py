"""Which schema this version of zygo knows. Apart from its tables: whoever only asks needs no SQLAlchemy."""

HEAD = "0005"
"""The newest migration. A database that is at it needs none, and then Alembic is not even imported."""

VERSION_TABLE = "zygo_version"
"""Where Alembic notes the version; not its usual name, since a PostgreSQL database may hold other programs' tables."""
