"""The store on SQLite: one file, one writer thread, group commit.

Order of reading: `sql` (statements by name), `connection` (opening, and what SQLite's errors mean), `writer` (the group
commit), `log`, `trimming`, `deliveries` and `registry` (over a connection), `store` (the asynchronous face).
"""

from hookbrook.store.sqlite.store import SqliteStore, system_clock

__all__ = ["SqliteStore", "system_clock"]
