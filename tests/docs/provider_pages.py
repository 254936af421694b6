"""A page for each provider, made from its row: how it is set up, what it signs, how it asks and how it tries again.

`python -m tests.docs.generated` writes them to `docs/providers`; `test_provider_pages.py` holds that they are current.
"""

from collections.abc import Iterator, Mapping, Sequence

from hookbrook.inbound.place import JoinedPlace, Place
from hookbrook.inbound.providers import load
from hookbrook.inbound.recipe import Certificate, Challenge, Condition, Hmac, Jwt, PublicKey, Row, Token, Unsigned
from hookbrook.inbound.sample import load as load_samples
from hookbrook.inbound.signed import Message, Signature, Timestamp

#: Rows of no provider in particular, which anybody's program may use.
OWN = ("standard-webhooks", "bearer", "basic", "cloudevents", "none")

MADE = "<!-- Made from inbound/providers.toml by `python -m tests.docs.generated`; changes here are lost. -->"

#: What the variables of a signed string stand for.
VARIABLES: Mapping[str, str] = {
    "b": "the raw body",
    "t": "the timestamp, as it is written in the request",
    "id": "the message's id",
    "u": "the public URL of the source, with its query",
    "m": "the method",
    "form": "the fields of a form, sorted, each name followed by its value",
}
#: How a secret's text becomes a key.
KEYS: Mapping[str, str] = {
    "utf8": "The secret is the key as it is written.",
    "hex": "The secret has hexadecimal digits, which are decoded to the key.",
    "base64": "The secret is base64, which is decoded to the key.",
}
ALGORITHMS: Mapping[str, str] = {
    "ed25519": "Ed25519",
    "ecdsa_p256": "ECDSA on the curve P-256 with SHA-256",
    "rsa_sha256": "RSA (PKCS #1 v1.5) with SHA-256",
}
#: What each scheme of a fetched certificate signs.
CERTIFIED: Mapping[str, str] = {
    "sns": "Named fields of the body",
    "paypal": "The transmission's id and time, the webhook's id and the CRC-32 of the raw body, joined by `|`",
}
CHECKSUM = (
    "A CRC-32 finds a body that was changed by mistake, but is no protection from somebody who has seen a signed "
    "webhook: it is easy to write another body with the same sum. Keep PayPal's webhooks, and logs of their headers, "
    "to yourself."
)
UNITS: Mapping[str, str] = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "iso": "an RFC 3339 time",
}


def pages() -> Mapping[str, str]:
    """Name of the file and text, of every page and of the index."""
    rows = load()
    return {"index.md": index(rows), **{f"{row.id}.md": page(row) for row in rows.values()}}


def index(rows: Mapping[str, Row]) -> str:
    judged = sum(bool(row.judge) for row in rows.values())
    lines = [
        "# The providers",
        "",
        MADE,
        "",
        f"Hookbrook knows {len(rows)} providers and schemes. {judged} of them are judged: third-party code, most of it",
        "the provider's own, signs or verifies, and the tests hold that both agree on good webhooks and on forged,",
        "changed and late ones. The others rest on the provider's documentation alone.",
        "",
        "| Provider | What its proof covers | Asks first | Judge |",
        "| --- | --- | --- | --- |",
    ]
    for row in sorted(rows.values(), key=lambda row: row.title.lower()):
        covers = ", ".join(row.covers) or "nothing"
        asks = "yes" if row.challenges else "–"
        lines.append(f"| [{row.title}]({row.id}.md) | {covers} | {asks} | {row.judge or '–'} |")
    lines += ["", "A provider that is missing is [a few lines of `hookbrook.toml`](../webhooks-in.md#the-providers)."]
    return "\n".join(lines) + "\n"


def page(row: Row) -> str:
    sections = [
        ("Set it up", _setup(row)),
        ("What is signed", _signed(row)),
        ("Its question", _challenges(row)),
        ("Deadline and repeats", _repeats(row)),
        ("The events", _events(row)),
        ("Try it without the provider", _samples(row)),
        ("Where this comes from", _sources(row)),
    ]
    parts = [f"# {row.title}", MADE]
    for name, lines in sections:
        if text := "\n\n".join(lines):
            parts += [f"## {name}", text]
    return "\n\n".join(parts) + "\n"


def _setup(row: Row) -> Iterator[str]:
    yield f"```sh\nhookbrook sources add {_name(row)} {row.id}{_secrets(row)}\n```"
    yield (
        f"This prints the address for {row.title}, `https://YOUR-HOST/in/{_name(row)}`."
        if row.id not in OWN
        else f"This prints the address, `https://YOUR-HOST/in/{_name(row)}`."
    )
    if row.setup:
        yield row.setup
    if "url" in row.covers:
        yield (
            "The address is a part of what is signed, so set `HOOKBROOK_PUBLIC_URL` (or the source's `public_url`) to "
            "what it begins with, exactly as the provider knows it."
        )
    if row.setup and row.source_url and row.id not in OWN:
        yield (
            f"Menus move. Where [the documentation of {row.title}]({row.source_url}) says otherwise, it is right: this "
            "section is from general knowledge."
        )


def _name(row: Row) -> str:
    return "mine" if row.id in OWN else row.id


def _secrets(row: Row) -> str:
    match row.verify:
        case Unsigned():
            return ""
        case Certificate(scheme="paypal"):
            return " --secret WEBHOOKID"
        case Certificate():
            return " --secret arn:aws:sns:REGION:ACCOUNT:TOPIC"
        case Token(encoding="base64"):
            return " --secret NAME:PASSWORD"
        case PublicKey():
            return " --secret THE-PUBLIC-KEY"
    return " --secret THE-SECRET" + (" --secret verify_token:THE-TOKEN" if row.has_verify_token else "")


def _signed(row: Row) -> Iterator[str]:
    match row.verify:
        case Hmac() as recipe:
            digest = f"HMAC-{recipe.hash.upper().replace('SHA', 'SHA-', 1)}"
            yield from _string(digest, recipe.message, recipe.signature, recipe.timestamp, recipe.id)
            yield f"{KEYS[recipe.key.encoding]}{_stripped(recipe.key.strip)}"
            if recipe.body_hash is not None:
                place = _place(recipe.body_hash.place)
                yield f"A body that is no form is covered by its SHA-256, in {recipe.body_hash.encoding}, in {place}."
        case PublicKey() as recipe:
            algorithm = ALGORITHMS[recipe.algorithm]
            yield from _string(algorithm, recipe.message, recipe.signature, recipe.timestamp, recipe.id)
            yield "The source's secret is the provider's public key, in " + recipe.key.encoding + "."
        case Token() as recipe:
            places = " or ".join(_place(place) for place in recipe.places)
            how = f" after `{recipe.scheme}`" if recipe.scheme else ""
            yield f"Nothing: the request shows the secret itself, in {places}{how}. It is compared in constant time."
        case Jwt() as recipe:
            places = " or ".join(_place(place) for place in recipe.places)
            yield f"A JSON Web Token ({', '.join(recipe.algorithms)}) in {places}, by the secret."
            yield f"Its claim `{recipe.body_claim}` is the SHA-256 of the raw body, in {recipe.encoding}."
            if recipe.url_claim:
                what = "the SHA-256 of the public URL" if recipe.url_hashed else "the public URL"
                yield f"Its claim `{recipe.url_claim}` is {what}."
            aged = f", and by `iat`, which may be {span(recipe.past_s)} old" if recipe.past_s is not None else ""
            yield f"It is judged by `exp` and `nbf` as of its arrival{aged}; clocks may differ by {recipe.leeway_s} s."
        case Certificate() as recipe:
            hosts = ", ".join(f"`{host}`" for host in recipe.hosts)
            what = CERTIFIED[recipe.scheme]
            yield f"{what}, by a certificate that is fetched from {hosts} and from nowhere else."
            if recipe.timestamp is not None:
                yield _window(recipe.timestamp)
            if recipe.scheme == "paypal":
                yield CHECKSUM
        case Unsigned():
            yield "Nothing. Whoever knows the address can send, and every event is kept as unverified."
    covered = ", ".join(row.covers)
    if covered:
        yield f"What the proof covers: {covered}. All else in the request, its headers included, is the sender's word."
    else:
        yield "No byte of the request is protected by this; it is as trustworthy as the connection that it came by."


def _string(
    digest: str, message: Message, signature: Signature, timestamp: Timestamp | None, id_: Sequence[Place]
) -> Iterator[str]:
    yield f"{digest} of this string:"
    yield f"```text\n{message.text}\n```"
    known = [f"- `{{{name}}}`: {VARIABLES[name]}" for name in VARIABLES if name in message.variables]
    known += [f"- `{{{name}}}`: what stands there" for name in sorted(message.variables - VARIABLES.keys())]
    if id_:
        places = f", from {' or '.join(map(_place, id_))}"
        known = [f"{line}{places}" if line.startswith("- `{id}`") else line for line in known]
    yield "\n".join(known)
    yield _written(signature)
    if timestamp is not None:
        yield _window(timestamp, signature)


def _written(signature: Signature) -> str:
    places = " and ".join(_place(place) for place in signature.places)
    text = f"The signature stands in {places}, in {signature.encoding}"
    if signature.prefix:
        text += f" after `{signature.prefix}`"
    if signature.assign:
        form = f"`{signature.name}{signature.assign}…`"
        text += f", as the item {form}"
        if signature.separator:
            mark = "a space" if signature.separator == " " else f"`{signature.separator}`"
            text += f" of a list that is separated by {mark}"
    return text + ". Of several signatures one that holds is enough."


def _window(timestamp: Timestamp, signature: Signature | None = None) -> str:
    if timestamp.item and signature is not None:
        where = f"the item `{timestamp.item}{signature.assign}…` of the same list"
    else:
        where = " or ".join(_place(place) for place in timestamp.places)
    past, future = span(timestamp.past_s), span(timestamp.future_s)
    return (
        f"The time is {UNITS[timestamp.unit]}, in {where}. When it arrives, it may be {past} old, and {future} ahead "
        "of this machine's clock."
    )


def span(seconds: float) -> str:
    """The time in words, in the largest unit that makes it a whole number."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size:g} {unit}{'' if seconds == size else 's'}"
    raise ValueError(seconds)


def _stripped(prefix: str) -> str:
    return f" `{prefix}` before it is taken off." if prefix else ""


def _place(place: Place) -> str:
    if isinstance(place, JoinedPlace):
        return " with ".join(map(_place, place.places))
    words = str(place)
    for start in ("the body's ", "the query parameter ", "the form field "):
        if words.startswith(start):
            return f"{start}`{words.removeprefix(start)}`"
    if words.startswith("the ") and words.endswith(" header"):
        return f"the header `{words[4:-7]}`"
    return words


def _challenges(row: Row) -> Iterator[str]:
    if not row.challenges:
        return
    yield "Answered by Hookbrook itself, as often as it comes, and not kept as an event:"
    yield "\n".join(f"- {_challenge(challenge)}" for challenge in row.challenges)


def _challenge(challenge: Challenge) -> str:
    conditions = " and ".join(_condition(condition) for condition in challenge.when)
    text = f"A {challenge.method}" + (f" in which {conditions}" if conditions else "")
    if challenge.token is not None:
        text += f", if {_place(challenge.token)} is the source's verify token"
    if challenge.signed:
        text += ", if its signature holds"
    if challenge.visit is not None:
        text += f": the address in {_place(challenge.visit)} is asked for, if it lies at one of the provider's hosts"
    reply = f"; the answer is {challenge.status}"
    if challenge.json is not None:
        members = ", ".join(f'"{name}": {_member(value)}' for name, value in challenge.json.items())
        reply += f" with `{{{members}}}`"
    elif challenge.text:
        reply += f" with `{challenge.text}`"
    if challenge.headers:
        reply += " and the headers " + ", ".join(f"`{name}: {value}`" for name, value in challenge.headers.items())
    if challenge.value is not None:
        computed = ", `{hmac:…}` its HMAC-SHA-256 by the secret" if challenge.is_computed else ""
        reply += f", where `{{value}}` is {_place(challenge.value)}{computed}"
    return text + reply + "."


def _member(value: str | int) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _condition(condition: Condition) -> str:
    place = _place(condition.place)
    if condition.absent:
        return f"{place} is missing"
    return f"{place} is `{condition.equals}`" if condition.equals is not None else f"{place} is there"


def _repeats(row: Row) -> Iterator[str]:
    if row.deadline_s is not None:
        yield f"It waits {span(row.deadline_s)} for an answer. Hookbrook answers once the webhook is on the disk."
    if row.retries:
        yield f"Its retries: {row.retries}."
    if row.dedupe:
        places = ", else ".join(_place(place) for place in row.dedupe)
        known = f"A repeat is known by {places}"
    else:
        known = "It sends no id, so a repeat is known by the hash of the body"
    if isinstance(row.verify, Jwt) and row.verify.id_claim:
        known = f"A repeat is known by the token's claim `{row.verify.id_claim}`"
    if row.dedupe_window_s:
        yield f"{known}, for {span(row.dedupe_window_s)}. It is answered as the first one was, and not kept again."
    else:
        yield "Repeats cannot be told from new webhooks here: each is kept."
    if row.acknowledge is not None:
        body = f" and `{row.acknowledge.body}`" if row.acknowledge.body else ""
        yield f"The answer is {row.acknowledge.status}{body}, as this provider wants it."


def _events(row: Row) -> Iterator[str]:
    yield f"The type of an event is `{row.type.text}`, unless the source has a template of its own."
    if row.split:
        kind, _, path = row.split.partition(":")
        where = f"the form field `{path}`" if kind == "form" else f"the body's `{path}`" if path else "the body"
        yield f"A request may bring several: each element of the list in {where} becomes an event of its own."


def _samples(row: Row) -> Iterator[str]:
    known = load_samples().get(row.id, {})
    if not known:
        return
    flag = " --secret THE-PRIVATE-KEY" if isinstance(row.verify, PublicKey) else ""
    yield "```sh\n" + "\n".join(f"hookbrook trigger {row.id} {type_}{flag}" for type_ in known) + "\n```"
    yield "These are samples of ours in the provider's shape, [signed as it signs](../listen.md#samples)."


def _sources(row: Row) -> Iterator[str]:
    checked = f", looked at on {row.checked_on.isoformat()}" if row.checked_on else ""
    if row.source_url:
        yield f"From [the documentation]({row.source_url}){checked}."
    if row.judge:
        yield f"Judged by {row.judge}: the tests let that code and this row look at the same webhooks."
    elif not isinstance(row.verify, Unsigned):
        yield "Not judged: no third-party code that signs or verifies for it is run by the tests."
