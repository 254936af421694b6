"""The work of `hookbrook trigger`, once its flags are read."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hookbrook import Hookbrook
from hookbrook.cli.connection import fail, path, show_table
from hookbrook.cli.forward import Answer, Outgoing, Target
from hookbrook.cli.forwarder import Signer, as_outgoing, as_request
from hookbrook.cli.letter import edited
from hookbrook.cli.listening import known_rows
from hookbrook.inbound import sample as samples
from hookbrook.inbound.place import FormPlace
from hookbrook.inbound.recipe import Unsigned
from hookbrook.inbound.sign import put, with_member

#: Seconds for an answer.
TIMEOUT_S = 30.0
#: Characters of an answer that are shown.
SHOWN_CHARACTERS = 200


def show_samples(provider: str | None) -> None:
    """All samples, or one provider's, as a table."""
    known = samples.load()
    if provider is not None and provider not in known:
        fail(f"there is no sample of {provider!r}, but of {', '.join(known)}")
    rows = [{"provider": name, "type": each} for name, types in known.items() for each in types]
    show_table([row for row in rows if provider in (None, row["provider"])], ("provider", "type"), empty="")


def prepared(
    provider: str, type: str | None, *, changes: Sequence[str], file: Path | None, edit: bool
) -> Outgoing | None:
    """What is to be sent, without a signature; None if its author has thought better of it."""
    outgoing = _sample(provider, type) if file is None else _of_file(provider, type, file)
    for change in changes:
        outgoing = _changed(outgoing, change)
    return edited(outgoing, "/") if edit else outgoing


def _sample(provider: str, type: str | None) -> Outgoing:
    known = samples.load()
    if provider not in known:
        fail(f"there is no sample of {provider!r}, but of {', '.join(known)}; --file takes a body of your own")
    if type is None or type not in known[provider]:
        what = "say which of them" if type is None else f"{provider} has no sample {type!r}"
        fail(f"{what}: {', '.join(known[provider])}; --file takes a body of your own")
    request = samples.request_of(known[provider][type], url="", now=time.time(), seed=os.urandom(16))
    return as_outgoing(request)


def _of_file(provider: str, type: str | None, file: Path) -> Outgoing:
    """The file's body, with the headers of that sample if there is one."""
    known = samples.load().get(provider, {})
    outgoing = _sample(provider, type) if type in known else Outgoing(headers=(("Content-Type", "application/json"),))
    return replace(outgoing, body=file.read_bytes())


def _changed(outgoing: Outgoing, change: str) -> Outgoing:
    name, equals, value = change.partition("=")
    if not equals or not all(name.split(".")):
        fail(f"--set {change}: write PATH=VALUE, such as data.object.amount_paid=7")
    request = as_request(outgoing, "")
    if request.is_form:
        return as_outgoing(put(request, FormPlace(name), value.encode()))
    try:
        raw = json.dumps(json.loads(value))
    except ValueError:
        raw = json.dumps(value)
    return replace(outgoing, body=with_member(outgoing.body, name.split("."), raw.encode()))


def send(outgoing: Outgoing, url: str, *, provider: str, secret: str | None, sign_url: str | None = None) -> bool:
    """To any URL; whether it was answered with a 2xx. Raises Unanswered."""
    rows = known_rows()
    target = Target(url, timeout_s=TIMEOUT_S)
    if provider not in rows:
        fail(f"{provider!r} is no provider; `hookbrook sources providers` lists them")
    if not secret and not isinstance(rows[provider].verify, Unsigned):
        fail("--secret says what to sign by, or HOOKBROOK_SOURCE_SECRET")
    signer = Signer(rows=rows, secret=secret or "", url=sign_url)
    signed = signer.signed(outgoing, provider=provider, url=target.full(), id_=f"msg_{os.urandom(12).hex()}")
    answer = target.send(signed)
    return _tell(answer, target.url)


def send_to_source(
    brook: Hookbrook, outgoing: Outgoing, provider: str, *, source: str | None, secret: str | None
) -> bool:
    """To a source of the server, which signs by its own secret if there is no other."""
    name = source or _source_of(brook, provider)
    if secret:
        made = brook.request("GET", path("sources", name))
        return send(outgoing, made["url"], provider=provider, secret=secret)
    document = {"headers": dict(outgoing.headers), "body": outgoing.body.decode()}
    found: Any = brook.request("POST", path("sources", name, "trigger"), json=document)
    return _tell(Answer(status=found["status"], reason="", seconds=0, text=found["body"]), name)


def _source_of(brook: Hookbrook, provider: str) -> str:
    names = [each["name"] for each in brook.pages("/v1/sources") if each["provider"] == provider]
    if not names:
        fail(f"there is no source of {provider} yet: hookbrook sources add NAME {provider} --secret …; or say --to")
    if len(names) > 1:
        fail(f"there are several sources of {provider}, say which: --source {' or --source '.join(sorted(names))}")
    return str(names[0])


def _tell(answer: Answer, where: str) -> bool:
    text = "".join(character if character.isprintable() else " " for character in answer.text[:SHOWN_CHARACTERS])
    print(f"{where}: {answer.status} {answer.reason}".strip(), text.strip(), sep="  ")
    return answer.ok
