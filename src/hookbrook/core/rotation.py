"""Which keys sign an endpoint's webhooks at a moment, and how one is replaced without a receiver noticing.

A rotation makes a new key and lets the old one sign beside it until the overlap is over, so that a receiver may change
over at any time in between. That a key has expired is judged when something is signed; no job takes it away.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from hookbrook.core.endpoint import Endpoint, Retired
from hookbrook.core.signing import (
    SIGNING_KEY_PREFIX,
    PublicKey,
    Signer,
    new_secret,
    new_signing_key,
    parse_signer,
    parse_signing_key,
)
from hookbrook.errors import Conflict, Invalid

#: A day is enough for a deployment, and a leaked secret is of use to its finder for no longer than that.
DEFAULT_OVERLAP_S: Final = 86400.0
MAX_OVERLAP_S: Final = 7 * 86400.0
#: Each is one more signature on every webhook; together with those in force they stay below the 16 that
#: `core.signing` looks at.
MAX_RETIRED: Final = 10

_US: Final = 1_000_000


class Key(NamedTuple):
    """A key that signs, and when it stops to, in microseconds since 1970 (None: not by itself)."""

    signer: Signer
    expires: int | None

    def signs_at(self, now: int) -> bool:
        return self.expires is None or now < self.expires


def keys_of(endpoint: Endpoint) -> list[Key]:
    """The endpoint's keys in the order in which they sign, those that have expired too. Raises `Invalid`."""
    in_force = [*endpoint.secrets, *([endpoint.signing_key] if endpoint.signing_key else [])]
    keys = [Key(parse_signer(text), None) for text in in_force]
    keys += [Key(parse_signer(retired.key), retired.expires) for retired in endpoint.retired]
    return [key for key in keys if key.signer.version in endpoint.signatures]


def public_keys(endpoint: Endpoint, now: int) -> list[tuple[PublicKey, int | None]]:
    """The Ed25519 keys that sign now, the newest first, each with its expiry."""
    found: list[tuple[PublicKey, int | None]] = []
    if "v1a" not in endpoint.signatures:
        return found
    if endpoint.signing_key is not None:
        found.append((parse_signing_key(endpoint.signing_key).public, None))
    return found + [
        (parse_signing_key(retired.key).public, retired.expires)
        for retired in reversed(in_overlap(endpoint, now))
        if retired.key.startswith(SIGNING_KEY_PREFIX)
    ]


def in_overlap(endpoint: Endpoint, now: int) -> tuple[Retired, ...]:
    """What was replaced and signs still."""
    return tuple(retired for retired in endpoint.retired if now < retired.expires)


def with_signing_key(endpoint: Endpoint, random: Callable[[int], bytes]) -> Endpoint:
    """The endpoint with a signing key if it asks for `v1a` and has none."""
    if "v1a" not in endpoint.signatures or endpoint.signing_key is not None:
        return endpoint
    return replace(endpoint, signing_key=new_signing_key(random))


def rotate(
    endpoint: Endpoint,
    *,
    versions: Sequence[str] | None,
    overlap_s: float,
    secret: str | None,
    now: int,
    random: Callable[[int], bytes],
) -> Endpoint:
    """The endpoint with new keys; those that they replace sign for `overlap_s` more.

    Nothing that was replaced earlier signs longer than that either, so that an overlap of 0 leaves the new keys alone.

    Args:
        versions: which of its `signatures` get a new key; all of them if None.
        secret: the new `whsec_…`; made if None.

    Raises `Invalid`, or `Conflict` if too many overlap.
    """
    if not 0 <= overlap_s <= MAX_OVERLAP_S:
        raise Invalid.of("overlap_s", f"must be between 0 and {MAX_OVERLAP_S:g}")
    for version in versions or ():
        if version not in endpoint.signatures:
            raise Invalid.of("signatures", f"the endpoint does not sign {version}")
    chosen = versions or endpoint.signatures
    if secret is not None and "v1" not in chosen:
        raise Invalid.of("secret", "is that of v1, which is not rotated")
    until = now + round(overlap_s * _US)
    replaced: list[str] = []
    changed = endpoint
    if "v1" in chosen:
        replaced += endpoint.secrets
        changed = replace(changed, secrets=(secret or new_secret(random),))
    if "v1a" in chosen and endpoint.signing_key is not None:
        replaced.append(endpoint.signing_key)
        changed = replace(changed, signing_key=new_signing_key(random))
    earlier = [replace(retired, expires=min(retired.expires, until)) for retired in endpoint.retired]
    all_retired = [*earlier, *(Retired(key=key, expires=until) for key in replaced)]
    # A secret that comes back into force must not expire.
    kept = tuple(each for each in all_retired if now < each.expires and each.key not in changed.secrets)
    if len(kept) > MAX_RETIRED:
        raise Conflict(f"{len(endpoint.retired)} replaced keys still sign; rotate again when the first has expired.")
    return replace(changed, retired=kept)
