"""Room on each page of credentials for the rows that follow: ``pending``, and ``confirmed``.

A row has its document in it, and is written anew with each change of its metadata. Where its page has room,
PostgreSQL leaves the index as it is, and clears the old row away without a vacuum. The table takes twice the
place from the beginning, as it would once every row has been written anew.
"""

from typing import Any

from peewee import SqliteDatabase

#: Per cent of a page that new rows fill.
FILLFACTOR = 50

#: Whether it is a table of ours to set: the issuer's may be another's, partitioned, or set already.
IS_OURS = """
SELECT 1 FROM pg_class WHERE oid = 'credentials'::regclass AND relkind = 'r'
    AND pg_has_role(relowner, 'USAGE') AND strpos(coalesce(reloptions::text, ''), 'fillfactor') = 0
"""

IS_SET = """
SELECT 1 FROM pg_class WHERE oid = 'credentials'::regclass
    AND pg_has_role(relowner, 'USAGE') AND %s = ANY (reloptions)
"""


def up(migrator: Any, db: Any) -> None:
    """Of what is inserted from now on."""
    if not isinstance(db, SqliteDatabase) and db.execute_sql(IS_OURS).fetchone():
        db.execute_sql(f"ALTER TABLE credentials SET (fillfactor = {FILLFACTOR})")


def down(migrator: Any, db: Any) -> None:
    """Full pages again."""
    if (
        not isinstance(db, SqliteDatabase)
        and db.execute_sql(IS_SET, (f"fillfactor={FILLFACTOR}",)).fetchone()
    ):
        db.execute_sql("ALTER TABLE credentials RESET (fillfactor)")
