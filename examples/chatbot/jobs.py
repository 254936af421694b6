"""The engine's memory: one SQLite file with the questions it accepted and the callbacks it owes.

A job is written before its webhook is answered, and a callback before it is sent. So whenever the engine is killed,
the file says what is still to be done, and a callback that is sent again is the same callback.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
create table if not exists job (
    id       text primary key,              -- the webhook-id: a repeated webhook is the same job
    question text not null,
    finished integer not null default 0     -- 1 once the last callback is written down
);
create table if not exists callback (
    id   text primary key,                  -- its own webhook-id, stable over all tries
    job  text not null references job (id),
    body text not null,
    sent integer not null default 0         -- 1 once the receiver answered with 2xx
);
create index if not exists callback_owed on callback (job) where sent = 0;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a webhook asked."""

    conversation: str
    reply: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A webhook that the engine owes."""

    id: str
    body: str


class Jobs:
    """Accepted questions and owed callbacks. Each method is one transaction that is on the disk when it returns."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None)
        self._db.executescript("pragma journal_mode = wal; pragma synchronous = full;")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def accept(self, job: str, question: Question) -> bool:
        """Keep a question; False if this webhook is known already."""
        row = (job, json.dumps({"conversation": question.conversation, "reply": question.reply, "text": question.text}))
        return self._db.execute("insert or ignore into job (id, question) values (?, ?)", row).rowcount == 1

    def unfinished(self) -> list[str]:
        """The jobs with something left to do, oldest first."""
        query = """select id from job where not finished
                      or exists (select 1 from callback where job = job.id and not sent) order by rowid"""
        return [row[0] for row in self._db.execute(query)]

    def question(self, job: str) -> Question:
        (text,) = self._db.execute("select question from job where id = ?", (job,)).fetchone()
        return Question(**json.loads(text))

    def is_finished(self, job: str) -> bool:
        return bool(self._db.execute("select finished from job where id = ?", (job,)).fetchone()[0])

    def owe(self, job: str, callback_id: str, body: Mapping[str, object], *, last: bool = False) -> None:
        """Write a callback down, once; with `last` the job is finished by the same transaction."""
        with self._db:
            self._db.execute("begin immediate")
            row = (callback_id, job, json.dumps(body))
            self._db.execute("insert or ignore into callback (id, job, body) values (?, ?, ?)", row)
            if last:
                self._db.execute("update job set finished = 1 where id = ?", (job,))

    def next_owed(self, job: str) -> Callback | None:
        query = "select id, body from callback where job = ? and sent = 0 order by rowid limit 1"
        row = self._db.execute(query, (job,)).fetchone()
        return Callback(id=row[0], body=row[1]) if row else None

    def mark_sent(self, callback_id: str) -> None:
        self._db.execute("update callback set sent = 1 where id = ?", (callback_id,))

    def callbacks(self, job: str) -> list[dict[str, Any]]:
        """The bodies of all callbacks of a job so far, in order."""
        rows = self._db.execute("select body from callback where job = ? order by rowid", (job,))
        return [json.loads(row[0]) for row in rows]
