"""What a request that is signed by a certificate says of itself, read as its provider writes it.

Amazon SNS writes all of it into the body, and names the topic, which has to be one of the source's secrets. PayPal
writes it into headers, and signs the webhook's id, which it does not send along: that is the source's secret.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from zlib import crc32

import msgspec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from hookbrook.inbound.place import Place
from hookbrook.inbound.recipe import PAYPAL_HEADERS
from hookbrook.inbound.request import Request
from hookbrook.inbound.verdict import Reason, Refusal, no_secret, only, sentence


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """All of it is the sender's word until the signature holds."""

    #: Where the certificate lies.
    url: str
    signature: bytes
    #: None: one that this provider does not sign by.
    hash: type[SHA1 | SHA256] | None
    #: When it was sent, as it is written there.
    time: bytes
    #: By the index of a secret: what was signed, if it is the right one.
    signed: Mapping[int, bytes]


# What SNS signs: of these the ones that are there, each as a line with its name and a line with its value.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED: Mapping[str, Sequence[str]] = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}
_SNS_HASHES: Mapping[str, type[SHA1 | SHA256]] = {"1": SHA1, "2": SHA256}


def read_sns(secrets: Sequence[str], request: Request) -> Claim:
    """Raises `Refusal`."""
    index = _topic(secrets, topic_of(request))
    signed = _sns_string(request)
    return Claim(
        url=_text(request, "SigningCertURL"),
        signature=_sns_signature(request),
        hash=_SNS_HASHES.get(_text(request, "SignatureVersion")),
        time=_text(request, "Timestamp").encode("utf-8", "replace"),
        signed={index: signed},
    )


def topic_of(request: Request) -> str:
    """The topic that a message of SNS says it is of; empty if it says none."""
    return _text(request, "TopicArn")


def _text(request: Request, name: str) -> str:
    body = request.json
    value = body.get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else ""


def _topic(secrets: Sequence[str], topic: str) -> int:
    shown = topic.encode("utf-8", "replace")
    for index, secret in _usable(secrets).items():
        if compare_digest(secret, shown):
            return index
    raise Refusal(Reason.MISMATCH, "The message is of another topic.")


def _sns_string(request: Request) -> bytes:
    names = _SIGNED.get(_text(request, "Type"))
    if names is None:
        raise Refusal(Reason.MALFORMED_SIGNATURE, "The body is no message of this provider.")
    lines = (f"{name}\n{_text(request, name)}\n" for name in names if isinstance(request.json.get(name), str))
    return "".join(lines).encode("utf-8", "replace")


def _sns_signature(request: Request) -> bytes:
    text = _text(request, "Signature")
    if not text:
        raise Refusal(Reason.MISSING_SIGNATURE, "The body's Signature is missing.")
    return _decoded(text.encode("utf-8", "replace"), "The body's Signature")


_MISSING = (
    Reason.MISSING_SIGNATURE,
    Reason.MISSING_ID,
    Reason.MISSING_TIMESTAMP,
    Reason.MISSING_SIGNATURE,
    Reason.MISSING_SIGNATURE,
)
_PAYPAL_HASHES: Mapping[bytes, type[SHA1 | SHA256]] = {b"SHA256withRSA": SHA256}


def read_paypal(secrets: Sequence[str], request: Request) -> Claim:
    """Raises `Refusal`."""
    usable = _usable(secrets)
    signature, id_, time, url, algorithm = (
        _header(request, place, reason) for place, reason in zip(PAYPAL_HEADERS, _MISSING, strict=True)
    )
    checksum = b"%d" % crc32(request.body)
    return Claim(
        url=url.decode("latin-1"),
        signature=_decoded(signature, "The signature"),
        hash=_PAYPAL_HASHES.get(algorithm),
        time=time,
        signed={index: b"|".join((id_, time, secret, checksum)) for index, secret in usable.items()},
    )


def _header(request: Request, place: Place, missing: Reason) -> bytes:
    values = place.values(request)
    if not values or not values[0]:
        raise Refusal(missing, sentence(place, "is missing"))
    return only(values, place)


def _usable(secrets: Sequence[str]) -> Mapping[int, bytes]:
    usable = {index: secret.encode("utf-8", "replace") for index, secret in enumerate(secrets) if secret}
    if not usable:
        raise no_secret()
    return usable


def _decoded(text: bytes, what: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (NotBase64, ValueError):
        raise Refusal(Reason.MALFORMED_SIGNATURE, f"{what} is not base64.") from None


READERS: Mapping[str, Callable[[Sequence[str], Request], Claim]] = {"sns": read_sns, "paypal": read_paypal}
