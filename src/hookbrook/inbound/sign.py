"""The inverse of verification: a request signed as its provider signs, from the same row of the table.

A webhook that is a month old fails its provider's own library, which looks at the time. Signed anew, with a secret of
the developer's own and the time of now, it passes, and everything else of it is as it came. A sample that we wrote
becomes a webhook in the same way.

What a row says about verifying says how to sign: the string, the key, where time, id and signature stand. Whatever of
these a request has already is replaced where it stands; what it lacks is put in the row's first place for it.
"""

import hmac
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key
from msgspec.structs import replace

from hookbrook.errors import Invalid
from hookbrook.inbound.place import FormPlace, HeaderPlace, JsonPlace, Place, QueryPlace
from hookbrook.inbound.recipe import Hmac, Jwt, PublicKey, Row, Token, Unsigned
from hookbrook.inbound.request import Request
from hookbrook.inbound.signed import Encoding, Timestamp, decode

#: Seconds for which a token of ours holds, where the row does not say how old one may be.
TOKEN_LIFETIME_S = 300

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def sign(row: Row, secret: str, request: Request, *, now: float, id_: str) -> Request:
    """The request as the provider would send it at `now` (seconds since 1970).

    Args:
        secret: as a source has it; for a provider that signs by a private key, that key (PEM, or as the row writes
            keys: the 32 bytes of Ed25519 or the DER of PKCS #8).
        request: its `url` is the one that is signed, by providers that sign it.
        id_: the message's id, if the row wants one and the request has none.

    Raises `Invalid` for a secret that is none, a body without room for what is signed, and a provider whose signature
    nobody else can make.
    """
    if isinstance(row.verify, Unsigned):
        return request
    signer = _SIGNERS.get(type(row.verify))
    if signer is None:
        raise Invalid.of("provider", f"{row.title} signs by a certificate of its own, which nobody else can do")
    return signer(row.verify, secret, request, now, id_)


def can_sign(row: Row) -> bool:
    """Whether `sign` can do it at all, given the right secret."""
    return isinstance(row.verify, Unsigned) or type(row.verify) in _SIGNERS


def _sign_string(recipe: Hmac | PublicKey, secret: str, request: Request, now: float, id_: str) -> Request:
    request, found_id = _with_id(recipe, request, id_)
    request, time = _with_time(recipe.timestamp, request, now)
    if isinstance(recipe, Hmac) and recipe.body_hash is not None and request.body and not request.is_form:
        digest = encode(sha256(request.body).digest(), recipe.body_hash.encoding)
        request = put(request, recipe.body_hash.place, digest)
    message = recipe.message.render(request, timestamp=time, id_=found_id)
    rule = recipe.signature
    value = encode(_signature(recipe, secret, message), rule.encoding)
    if rule.encoding == "base64url":
        # RFC 4648 section 3.2 lets it go; Sanity's library does not take it.
        value = value.rstrip(b"=")
    value = rule.prefix.encode() + value
    if rule.assign:
        items = [(rule.name.encode(), value)]
        if recipe.timestamp is not None and recipe.timestamp.item:
            items.insert(0, (recipe.timestamp.item.encode(), time))
        value = rule.separator.encode().join(name + rule.assign.encode() + each for name, each in items)
    chosen = _chosen(rule.places, request)
    for place in rule.places:
        # A second signature was made by a key that we do not have.
        if place is not chosen:
            request = without(request, place)
    return put(request, chosen, value)


def _with_id(recipe: Hmac | PublicKey, request: Request, id_: str) -> tuple[Request, bytes]:
    if not recipe.id:
        return request, b""
    place = _chosen(recipe.id, request)
    if values := place.values(request):
        return request, values[0]
    return put(request, place, id_.encode()), id_.encode()


def _with_time(rule: Timestamp | None, request: Request, now: float) -> tuple[Request, bytes]:
    if rule is None:
        return request, b""
    time = time_text(rule.unit, now)
    if rule.item:
        return request, time
    return put(request, _chosen(rule.places, request), time, number=rule.unit != "iso"), time


def time_text(unit: str, now: float) -> bytes:
    """The time as `Timestamp.unit` writes it."""
    if unit == "iso":
        moment = datetime.fromtimestamp(now, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    return b"%d" % (now * 1000 if unit == "ms" else now)


def _signature(recipe: Hmac | PublicKey, secret: str, message: bytes) -> bytes:
    if isinstance(recipe, Hmac):
        return hmac.digest(_key(recipe, secret), message, recipe.hash)
    key = private_key(recipe, secret)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(SHA256()))
    return key.sign(message, padding.PKCS1v15(), SHA256())


def _key(recipe: Hmac | Jwt, secret: str) -> bytes:
    try:
        return recipe.key.decode(secret)
    except ValueError as exc:
        raise Invalid.of("secret", str(exc)) from None


_KINDS: Mapping[str, type] = {
    "ed25519": ed25519.Ed25519PrivateKey,
    "ecdsa_p256": ec.EllipticCurvePrivateKey,
    "rsa_sha256": rsa.RSAPrivateKey,
}


def private_key(recipe: PublicKey, text: str) -> PrivateKey:
    """The key that the text writes; raises `Invalid` without a word of it if it is none of this recipe's kind."""
    try:
        key = _load(recipe, text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, _KINDS[recipe.algorithm]):
        raise Invalid.of("secret", f"it is no private key of the kind {recipe.algorithm} (PEM, PKCS #8, or 32 bytes)")
    return key  # type: ignore[return-value]  # one of the three


def _load(recipe: PublicKey, text: str) -> object:
    if text.lstrip().startswith("-----BEGIN"):
        return load_pem_private_key(text.encode(), None)
    raw = recipe.key.decode(text)
    if recipe.algorithm == "ed25519" and len(raw) == 32:
        return ed25519.Ed25519PrivateKey.from_private_bytes(raw)
    return load_der_private_key(raw, None)


def _sign_token(recipe: Token, secret: str, request: Request, _now: float, _id: str) -> Request:
    if not secret:
        raise Invalid.of("secret", "it is empty")
    value = secret.encode()
    if recipe.encoding == "base64":
        value = b64encode(value)
    if recipe.scheme:
        value = recipe.scheme.encode() + b" " + value
    return put(request, _chosen(recipe.places, request), value)


def _sign_jwt(recipe: Jwt, secret: str, request: Request, now: float, id_: str) -> Request:
    """RFC 7515 section 7.1. What a token of the provider said besides is said again."""
    place = _chosen(recipe.places, request)
    lifetime = TOKEN_LIFETIME_S if recipe.past_s is None else recipe.past_s
    algorithm = recipe.algorithms[0]
    claims = {
        **_claims(next(iter(place.values(request)), b"")),
        **({"iss": recipe.issuer} if recipe.issuer else {}),
        **({recipe.id_claim: id_} if recipe.id_claim else {}),
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + lifetime,
        recipe.body_claim: encode(sha256(request.body).digest(), recipe.encoding).decode(),
    }
    if recipe.url_claim:
        url = request.url
        claims[recipe.url_claim] = sha256(url.encode()).hexdigest() if recipe.url_hashed else url
    parts = [msgspec.json.encode(part) for part in ({"alg": algorithm, "typ": "JWT"}, claims)]
    signed = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.digest(_key(recipe, secret), signed, f"sha{algorithm[2:]}")
    token = signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")
    return put(request, place, recipe.scheme.encode() + b" " + token if recipe.scheme else token)


def _claims(value: bytes) -> Mapping[str, Any]:
    """What the request's old token says, if it can be read at all."""
    parts = value.rpartition(b" ")[2].split(b".")
    try:
        claims = json.loads(decode(parts[1], "base64url"))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


_SIGNERS: Mapping[type, Callable[[Any, str, Request, float, str], Request]] = {
    Hmac: _sign_string,
    PublicKey: _sign_string,
    Token: _sign_token,
    Jwt: _sign_jwt,
}


def encode(value: bytes, encoding: Encoding) -> bytes:
    """The inverse of `signed.decode`."""
    if encoding == "hex":
        return value.hex().encode()
    return b64encode(value) if encoding == "base64" else urlsafe_b64encode(value)


def _chosen(places: Sequence[Place], request: Request) -> Place:
    """The place that the request uses, or else the first."""
    return next((place for place in places if place.values(request)), places[0])


def put(request: Request, place: Place, value: bytes, *, number: bool = False) -> Request:
    """The request with this value in that place and no other there; raises `Invalid` where there is no room for it.

    With `number` it is one in JSON, unless a text stands there already.
    """
    match place:
        case HeaderPlace():
            return replace(request, headers=_headers_with(request.headers, place, value), lowered=False)
        case JsonPlace():
            text = msgspec.json.encode(value.decode("utf-8", "replace"))
            return replace(request, body=_json_with(request.body, place.path, text, value if number else text))
        case QueryPlace():
            query = _form_with(request.query, place.name, value).encode()
            return replace(request, query=query, url=request.url.partition("?")[0] + "?" + query.decode("latin-1"))
        case FormPlace():
            return replace(request, body=_form_with(request.body, place.name, value).encode())
    raise Invalid.of("provider", f"nothing can be put into {place}")


def without(request: Request, place: Place) -> Request:
    """The request without that header; other places stay as they are."""
    if not isinstance(place, HeaderPlace):
        return request
    return replace(request, headers=[pair for pair in request.headers if pair[0].lower() != place.key])


def _headers_with(
    headers: Sequence[tuple[bytes, bytes]], place: HeaderPlace, value: bytes
) -> Sequence[tuple[bytes, bytes]]:
    made: list[tuple[bytes, bytes]] = []
    done = False
    for name, old in headers:
        if name.lower() != place.key:
            made.append((name, old))
        elif not done:
            made.append((name, value))
            done = True
    return made if done else [*made, (place.name.encode(), value)]


def _form_with(encoded: bytes, name: str, value: bytes) -> str:
    pairs = parse_qsl(encoded.decode("latin-1"), keep_blank_values=True)
    others = [pair for pair in pairs if pair[0] != name]
    return urlencode([*others, (name, value.decode("utf-8", "replace"))])


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])


def with_member(body: bytes, path: Sequence[str], value: bytes) -> bytes:
    """The JSON with this value, JSON itself, at the path; raises `Invalid` where there is no room for it."""
    return _json_with(body, path, value, value)


def _json_with(body: bytes, path: Sequence[str], text: bytes, value: bytes) -> bytes:
    """The JSON with another value at the path, made if it is not there; what stands beside the path keeps its bytes.

    The value is `text`, as a JSON string, where a string stands; otherwise it is `value`.
    """
    body = body.strip()
    if not path:
        # Linear's time is a number, Mailgun's a text.
        return text if body.startswith(b'"') else value
    head, rest = path[0], path[1:]
    try:
        if body.startswith(b"[") or head == "*":
            elements = _elements.decode(body)
            for index in range(len(elements)) if head == "*" else (int(head),):
                elements[index] = msgspec.Raw(_json_with(bytes(elements[index]), rest, text, value))
            return msgspec.json.encode(elements)
        members = _members.decode(body)
    except (ValueError, IndexError, RecursionError):
        raise Invalid.of("body", "it is no JSON with room for what is signed") from None
    old = bytes(members[head]) if head in members else b"{}" if rest else b""
    members[head] = msgspec.Raw(_json_with(old, rest, text, value))
    return msgspec.json.encode(members)
