"""Why a verification failed, for the operator: the usual mistakes are undone one by one, until the signature holds.

Never for the caller: each of these sentences says something about the secret, or about what would have passed. A
finding is *proven* if the signature holds once the mistake is undone; otherwise it is what usually lies behind such a
failure. Nothing here is on a request's way: it costs as much as some dozen verifications. The work is bounded in bytes
hashed rather than in seconds, so that the answer does not depend on how busy the machine is.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from hookbrook.inbound import variants
from hookbrook.inbound.absent import absent, may_be_of, renamed
from hookbrook.inbound.case import MAX_BODY, Case, Cause, Finding, Spent, Trial, is_signed_as
from hookbrook.inbound.claim import topic_of
from hookbrook.inbound.recipe import Certificate, Hmac, Jwt, PublicKey, Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import first_present
from hookbrook.inbound.signed import items as items_of
from hookbrook.inbound.verdict import Reason, Refusal
from hookbrook.inbound.webtoken import claimed_time

#: The proof could be read, and it is known whether it holds, for its own time at least.
_COMPARED: Final = (Reason.MISMATCH, Reason.TOO_OLD, Reason.IN_THE_FUTURE)


def explain(case: Case) -> Finding:
    """The likeliest mistake; never raises, whatever the request's bytes are."""
    trial = Trial(case)
    try:
        for finding in _findings(case, trial):
            return finding
    except Spent:
        pass
    tried = f" ({trial.count} other readings were tried)" if trial.count else ""
    return Finding(
        cause=Cause.WRONG_SECRET if case.verdict.reason in _COMPARED else Cause.UNKNOWN,
        sentence=f"None of the usual mistakes makes the signature hold{tried}: most likely it was made with another "
        f"secret than this source has, or {_other_address(case)}the body was changed in another way.",
    )


def _other_address(case: Case) -> str:
    """What else may be wrong where the address is signed: a proxy may map any path to ours, which cannot be guessed."""
    if "url" not in case.row.covers:
        return ""
    known = urlsplit(case.request.url)
    return f"for another address than {known.scheme}://{known.netloc}{known.path} (see the public URL), or "


def _findings(case: Case, trial: Trial) -> Iterator[Finding]:
    reason = case.verdict.reason
    if reason is Reason.NO_SECRET:
        yield Finding(
            cause=Cause.NO_SECRET,
            sentence="The source has no secret, or none that this provider's scheme can use.",
            proven=True,
        )
    if reason is Reason.AMBIGUOUS:
        yield Finding(cause=Cause.HEADER_DOUBLED, sentence=f"{case.verdict.detail} A proxy may have added one.")
    if reason is Reason.NETWORK:
        sentence = (
            f"The signature holds, and it came from {case.address or 'no address'}, which is in none of the source's "
            "networks. If that is a proxy of yours, set `trusted_proxies`; if the provider has new addresses, add them."
        )
        yield Finding(cause=Cause.NETWORK, sentence=sentence, proven=True)
        return
    is_short = len(case.request.body) <= MAX_BODY
    if reason in (Reason.TOO_OLD, Reason.IN_THE_FUTURE):
        yield from _clock(case, trial)
    if reason in _COMPARED:
        yield from _other_topic(case)
        if is_short:
            yield from _changed(case, trial)
    else:
        yield from renamed(case)
        if is_short:
            yield from _other_providers(case, trial)
        yield from absent(case)


# A time outside the window


def _clock(case: Case, trial: Trial) -> Iterator[Finding]:
    sent_at = _sent_at(case.row, case.request)
    if sent_at is None:
        return
    trial.now = sent_at
    if trial.holds():
        away = round(abs(case.now - sent_at))
        when = "before it arrived" if sent_at < case.now else "after it arrived"
        why = (
            "this machine's clock is fast, a proxy held the request back, or it was sent once more"
            if sent_at < case.now
            else "this machine's clock is slow, or the sender's is fast"
        )
        yield Finding(
            cause=Cause.CLOCK, sentence=f"The signature holds, for a time {away} s {when}: {why}.", proven=True
        )


def _sent_at(row: Row, request: Request) -> float | None:
    """The time in the request, whether or not it is within the window."""
    recipe = row.verify
    if isinstance(recipe, Jwt):
        return claimed_time(recipe, request)
    if not isinstance(recipe, Hmac | PublicKey) or recipe.timestamp is None:
        return None
    rule = recipe.timestamp
    if rule.item:
        pieces = recipe.signature.pieces(recipe.signature.values(request))
        found = items_of(pieces, recipe.signature.start_of(rule.item))
    else:
        found = first_present(rule.places, request)
    try:
        return rule.seconds(found[0]) if found else None
    except Refusal:
        return None


# Something that is signed, or its key, is not what it was


def _changed(case: Case, trial: Trial) -> Iterator[Finding]:
    if not case.request.body and "body" in case.row.covers:
        yield Finding(
            cause=Cause.EMPTY_BODY,
            sentence="The body is empty: something in front of Hookbrook has read it, or a redirect has dropped it.",
        )
    yield from _other_secrets(case, trial)
    yield from _other_bodies(case, trial)
    yield from _other_urls(case, trial)
    yield from _other_providers(case, trial)


def _other_secrets(case: Case, trial: Trial) -> Iterator[Finding]:
    for changed, sentence in variants.secrets(case.secrets):
        if trial.holds(secrets=changed):
            yield Finding(cause=Cause.SECRET_TEXT, sentence=sentence, proven=True)
    for other in case.others:
        if other.row.verify == case.row.verify and trial.holds(secrets=other.secrets):
            yield Finding(
                cause=Cause.OTHER_SOURCE,
                sentence=f"It is signed with the secret of the source `{other.name}`: the secrets are mixed up, or the "
                f"provider was given this source's address in place of `/in/{other.name}`.",
                proven=True,
            )
    recipe = case.row.verify
    if isinstance(recipe, Hmac | Jwt):
        for key, sentence in variants.keys(recipe.key):
            if trial.holds(row=replace(case.row, verify=replace(recipe, key=key))):
                yield Finding(cause=Cause.KEY_ENCODING, sentence=sentence, proven=True)


def _other_bodies(case: Case, trial: Trial) -> Iterator[Finding]:
    if "body" not in case.row.covers:
        return
    for body, cause, sentence in variants.bodies(case.request):
        if body != case.request.body and trial.holds(request=replace(case.request, body=body)):
            yield Finding(cause=Cause(cause), sentence=sentence, proven=True)


def _other_urls(case: Case, trial: Trial) -> Iterator[Finding]:
    if "url" not in case.row.covers:
        return
    for url in variants.urls(case.request):
        if trial.holds(request=replace(case.request, url=url)):
            yield Finding(cause=Cause.PUBLIC_URL, sentence=_url_sentence(url, case.request.url), proven=True)


def _url_sentence(signed: str, ours: str) -> str:
    theirs, known = urlsplit(signed), urlsplit(ours)
    parts = {
        "scheme": theirs.scheme != known.scheme,
        "host or port": theirs.netloc != known.netloc,
        "path": theirs.path != known.path,
        "query": theirs.query != known.query,
    }
    differs = ", ".join(name for name, differ in parts.items() if differ)
    # Without its query, which may hold a credential.
    return (
        f"The provider signs {theirs.scheme}://{theirs.netloc}{theirs.path}, and this source takes itself for "
        f"{known.scheme}://{known.netloc}{known.path} (another {differs}): set its public URL to what the provider "
        "was given."
    )


def _other_providers(case: Case, trial: Trial) -> Iterator[Finding]:
    """By the secrets of this source, or by those of a source that has that provider."""
    for other in case.others:
        is_candidate = other.row.verify != case.row.verify and is_signed_as(other.row, case.request)
        if is_candidate and trial.holds(row=other.row, secrets=other.secrets):
            yield Finding(
                cause=Cause.OTHER_SOURCE,
                sentence=f"It is a webhook for the source `{other.name}`, and holds there: the provider was given "
                f"this source's address in place of `/in/{other.name}`.",
                proven=True,
            )
    for row in case.rows.values():
        if row.verify != case.row.verify and may_be_of(row, case) and trial.holds(row=row):
            yield Finding(
                cause=Cause.WRONG_PROVIDER,
                sentence=f"The secret is right, and the webhook is signed as {row.title} signs: the source's provider "
                f"should be `{row.id}`.",
                proven=True,
            )


def _other_topic(case: Case) -> Iterator[Finding]:
    recipe = case.row.verify
    if isinstance(recipe, Certificate) and recipe.scheme == "sns":
        topic = topic_of(case.request)
        if topic and topic not in case.secrets:
            yield Finding(
                cause=Cause.WRONG_SECRET,
                sentence=f"The message is of the topic {topic[:200]!r}, which is none of this source's secrets.",
                proven=True,
            )
