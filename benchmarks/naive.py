"""The peer of publishing: what one would write in an afternoon, a FastAPI route that commits each event to SQLite."""

import asyncio
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI


def build(path: Path) -> FastAPI:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, channel TEXT, type TEXT, data TEXT)")
    app = FastAPI()

    @app.post("/v1/events", status_code=201)
    async def publish(event: dict[str, Any]) -> dict[str, int]:
        insert = "INSERT INTO event (channel, type, data) VALUES (?, ?, ?)"
        cursor = connection.execute(insert, (event["channel"], event["type"], str(event["data"])))
        return {"seq": int(cursor.lastrowid or 0)}

    return app


if __name__ == "__main__":
    config = uvicorn.Config(build(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="warning", loop="uvloop")
    asyncio.run(uvicorn.Server(config).serve())
