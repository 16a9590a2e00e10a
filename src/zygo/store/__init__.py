"""The durable state of a server: deployed apps, their revisions, and the secrets in them. Only the server imports it.

store.py      one method per query; what everybody else uses
writer.py     one thread that commits what has queued up together     reader.py   one thread that answers questions
database.py   what the two databases have to know how to do           sqlite.py, postgres.py   those two
tables.py     the schema       migrate.py, migrations/   how older ones become it       vault.py   sealed values
"""
