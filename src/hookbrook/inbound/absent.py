"""Why a proof was not even there, or not readable: another provider, a proxy that drops headers, a stranger."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hookbrook.inbound.case import Case, Cause, Finding, is_signed_as, signature_places
from hookbrook.inbound.place import HeaderPlace, Place
from hookbrook.inbound.recipe import Row, Token
from hookbrook.inbound.verdict import Reason

_HEADER_IN_TEMPLATE: Final = re.compile(r"headers\.\"?([a-z0-9-]+)")
#: Headers of which every proxy adds some.
_OF_PROXIES: Final = (b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"cf-ray", b"x-real-ip")


def absent(case: Case) -> Iterator[Finding]:
    """What usually lies behind a proof that is missing or malformed."""
    if case.verdict.reason is Reason.MISSING_SIGNATURE:
        looks_like = next((row for row in case.rows.values() if row.id != case.row.id and may_be_of(row, case)), None)
        if looks_like is not None:
            yield Finding(
                cause=Cause.WRONG_PROVIDER,
                sentence=f"It looks like a webhook of {looks_like.title} (provider `{looks_like.id}`).",
            )
    yield from _stripped(case)


def renamed(case: Case) -> Iterator[Finding]:
    """A proxy or a program in front has written a header's name in another way."""
    wanted = {_folded(place.key): place for place in case.row.verify.places_read if isinstance(place, HeaderPlace)}
    for name, _ in case.request.headers:
        place = wanted.get(_folded(name))
        if place is not None and name.lower() != place.key and not place.values(case.request):
            yield Finding(
                cause=Cause.HEADER_RENAMED,
                sentence=f"The {place.name} header came as {name[:100].decode('latin-1')!r}: something in front of "
                "Hookbrook renames headers.",
                proven=True,
            )


def _folded(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-").removeprefix(b"http-")


def _stripped(case: Case) -> Iterator[Finding]:
    request, title = case.request, case.row.title
    if case.verdict.reason is not Reason.MISSING_SIGNATURE and not case.verdict.detail.endswith("is missing."):
        yield Finding(
            cause=Cause.NOT_THE_PROVIDER,
            sentence=f"{case.verdict.detail} {title} writes it otherwise: is the source's provider the right one?",
        )
        return
    there = [name.decode() for name in _siblings(case)]
    proxies = [name.decode() for name in _OF_PROXIES if request.header(name)]
    through = f" It came through a proxy ({', '.join(proxies)})." if proxies else ""
    if there:
        yield Finding(
            cause=Cause.HEADER_STRIPPED,
            sentence=f"{case.verdict.detail} Others of {title} came ({', '.join(there)}): a proxy drops it, or no "
            f"secret is set at {title}, which then does not sign.{through}",
        )
    elif not request.body:
        yield Finding(cause=Cause.EMPTY_BODY, sentence=f"The body is empty, and nothing in it says {title}.{through}")
    else:
        yield Finding(
            cause=Cause.NOT_THE_PROVIDER,
            sentence=f"Nothing in it says that it is from {title}: a scanner, somebody's test, or another "
            f"provider.{through}",
        )


def may_be_of(row: Row, case: Case) -> bool:
    """Whether the request has a signature of this row, and no header that only the case's own provider sends.

    GitHub signs by SHA-1 as well, in the header in which Intercom does; what says `X-GitHub-Event` is not Intercom's.
    """
    return is_signed_as(row, case.request) and set(_siblings(case)) <= set(_known_headers(row))


def _siblings(case: Case) -> Sequence[bytes]:
    """The headers beside the proof that say that the request is of the case's own provider."""
    places = {place.key for place in signature_places(case.row) if isinstance(place, HeaderPlace)}
    return [name for name in _known_headers(case.row) if name not in places and case.request.header(name)]


def _known_headers(row: Row) -> Sequence[bytes]:
    """Names of headers by which the row's provider is known."""
    places: list[Place] = [*row.dedupe, *row.verify.places_read]
    names = [place.key for place in places if isinstance(place, HeaderPlace)]
    names += [name.encode() for name in _HEADER_IN_TEMPLATE.findall(row.type.text)]
    common = (b"authorization", b"idempotency-key")
    return [name for name in dict.fromkeys(names) if name not in common]


def masked_names(rows: Mapping[str, Row]) -> frozenset[bytes]:
    """Headers in which some provider shows a secret as it is; a failure of any source may hold one of another's."""
    recipes: list[Any] = [row.verify for row in rows.values()]
    return frozenset(
        place.key
        for recipe in recipes
        if isinstance(recipe, Token)
        for place in recipe.places
        if isinstance(place, HeaderPlace)
    )
