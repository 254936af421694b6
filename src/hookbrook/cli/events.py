"""`hookbrook publish` and `hookbrook tail`."""

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer
from msgspec import Raw

from hookbrook.cli.connection import AsJson, Key, Url, connect, fail, show
from hookbrook.core.event import is_json, is_utf8

if TYPE_CHECKING:
    from hookbrook import Event, Hookbrook, Reset


def publish(
    channel: Annotated[str, typer.Argument(help="Where to, such as `chat.42`.")],
    data: Annotated[
        str | None, typer.Argument(help="JSON if it is JSON, else text; `-` or nothing reads standard input.")
    ] = None,
    type: Annotated[str, typer.Option("--type", "-t", help="What kind of event.")] = "message",
    id: Annotated[str | None, typer.Option("--id", help="The same id again is the same event.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Text even if it looks like JSON.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", exists=True, dir_okay=False, readable=True, help="Read the data from a file."),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of standard input is an event, published as it comes.")
    ] = False,
    merge: Annotated[
        str | None, typer.Option("--merge", help="Neighbours with the same key are pieces of one text.")
    ] = None,
    close: Annotated[
        bool, typer.Option("--close", help="It is the channel's last event: streams of it end after this one.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Publish an event.

    `hookbrook publish chat.42 'Hello from the server!'`
    """
    if lines and (data not in (None, "-") or file):
        fail("--lines reads standard input and nothing else")
    if lines and close:
        fail("--close goes with one event; publish another one with --close behind the lines")
    with connect(url, key) as brook:
        if lines:
            receipt = brook.publish_stream(
                channel, _lines(sys.stdin.buffer, text=text), type=type, id_prefix=id, merge=merge
            )
            _tell({"accepted": receipt.accepted, "cursor": receipt.cursor}, as_json, f"{receipt.accepted} events")
            return
        published = brook.publish(channel, _data(data, file, text=text), type=type, id=id, close=close, merge=merge)
    reply = {"id": published.id, "cursor": published.cursor, "duplicate": published.duplicate}
    again = " (the log already had it)" if published.duplicate else ""
    _tell(reply, as_json, f"{published.id} at {published.cursor}{again}")


def _tell(reply: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        show(reply)
    else:
        print(sentence)


def _data(data: str | None, file: Path | None, *, text: bool) -> Any:
    if file is not None:
        if data is not None:
            fail("give either DATA or --file")
        raw = file.read_bytes()
    else:
        raw = sys.stdin.buffer.read() if data in (None, "-") else str(data).encode()
    return _value(raw, text=text)


def _value(raw: bytes, *, text: bool) -> Any:
    """What the bytes are: JSON, which is passed on as it is written, text, or neither."""
    if not text and is_json(raw):
        return Raw(raw)
    return raw.decode() if is_utf8(raw) else raw


def _lines(stream: BinaryIO, *, text: bool) -> Iterator[Any]:
    for line in stream:
        if line.strip():
            yield _value(line.rstrip(b"\r\n"), text=text)


def tail(
    channels: Annotated[list[str], typer.Argument(help="Channels or patterns, such as `chat.*`.")],
    type: Annotated[list[str] | None, typer.Option("--type", "-t", help="Only these types or patterns.")] = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=0, help="Begin with the last N events.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Begin in the past: `2h`, or a time.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="Begin behind a cursor.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Watch events as they happen. Goes on by itself after a lost connection or a restart, and ends when all channels
    are closed.

    `hookbrook tail 'chat.*' --last 10`
    """
    if sum(start is not None for start in (last, since, after)) > 1:
        fail("give one of --last, --since and --after")
    with connect(url, key) as brook:
        for event in _follow(brook, channels, type or [], last, since, after):
            print(_line(event) if not as_json else _as_json(event), flush=True)


def _follow(
    brook: "Hookbrook", channels: list[str], types: list[str], last: int | None, since: str | None, after: str | None
) -> Iterator["Event"]:
    stream = brook.stream(*channels, types=types, last=last, since=since, after=after, on_reset=_say_reset)
    with stream:
        yield from stream


def _say_reset(reset: "Reset") -> None:
    print(f"--- {reset} ---", file=sys.stderr, flush=True)


def _line(event: "Event") -> str:
    data = event.data
    if isinstance(data, bytes):
        shown = f"<{len(data)} bytes of {event.content_type}>"
    else:
        shown = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    # One event is one line, and a terminal must not obey what an event holds.
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)
    return f"{event.time.astimezone():%H:%M:%S}  {event.channels[0]}  {event.type}  {shown}"


def _as_json(event: "Event") -> str:
    facts = {
        "id": event.id,
        "channels": list(event.channels),
        "type": event.type,
        "tenant": event.tenant,
        "source": event.source,
        "time": event.time.isoformat(),
        "content_type": event.content_type,
        **_data_members(event.data),
        "cursor": event.cursor,
        **({"close": True} if event.close else {}),
        **({"merge": event.merge} if event.merge else {}),
    }
    return json.dumps(facts, ensure_ascii=False)


def _data_members(data: Any) -> dict[str, Any]:
    return {"data_base64": b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}
