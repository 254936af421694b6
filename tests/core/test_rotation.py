"""Which keys sign at which moment, and what a rotation makes of them."""

from base64 import b64encode
from collections.abc import Sequence
from random import Random

import pytest

from hookbrook.core.endpoint import Endpoint, Retired
from hookbrook.core.rotation import (
    DEFAULT_OVERLAP_S,
    MAX_RETIRED,
    in_overlap,
    keys_of,
    public_keys,
    rotate,
    with_signing_key,
)
from hookbrook.core.signing import parse_secret, parse_signing_key
from hookbrook.errors import Conflict, Invalid

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_795_450_800_000_000
DAY = 86_400_000_000


class Bytes:
    """Random bytes that a test can foretell: all ones, then all twos, …"""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return bytes([self.calls]) * count


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, object] = {
        "id": "ep_1", "url": "https://x.example", "secrets": (SECRET,), "created": NOW, "updated": NOW, **fields,
    }  # fmt: skip
    return Endpoint(**values)  # type: ignore[arg-type]


def turn(
    before: Endpoint,
    *,
    now: int = NOW,
    versions: Sequence[str] | None = None,
    overlap_s: float = DEFAULT_OVERLAP_S,
    secret: str | None = None,
) -> Endpoint:
    random = Random(now).randbytes
    return rotate(before, versions=versions, overlap_s=overlap_s, secret=secret, now=now, random=random)


def signing(of: Endpoint, now: int) -> list[str]:
    return [key.signer.version for key in keys_of(of) if key.signs_at(now)]


def test_the_old_secret_signs_beside_the_new_until_the_overlap_is_over_to_the_microsecond() -> None:
    turned = turn(endpoint(), secret=NEXT)
    assert turned.secrets == (NEXT,)
    assert turned.retired == (Retired(key=SECRET, expires=NOW + DAY),)
    assert signing(turned, NOW + DAY - 1) == ["v1", "v1"]
    assert signing(turned, NOW + DAY) == ["v1"]
    assert [key.signer for key in keys_of(turned)] == [parse_secret(NEXT), parse_secret(SECRET)]


def test_without_an_overlap_nothing_old_signs_not_even_what_an_earlier_rotation_left() -> None:
    once = turn(endpoint())
    assert signing(turn(once, now=NOW + 1, overlap_s=0.0), NOW + 1) == ["v1"]


def test_a_later_rotation_never_lets_an_older_key_sign_longer() -> None:
    once = turn(endpoint(), overlap_s=3600.0)
    twice = turn(once, now=NOW + 1, overlap_s=7 * 86400.0)
    assert [each.expires for each in twice.retired] == [NOW + 3_600_000_000, NOW + 1 + 7 * DAY]


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"overlap_s": -1.0}, "overlap_s"),
        ({"overlap_s": 7 * 86400.0 + 1}, "overlap_s"),
        ({"versions": ["v1a"]}, "signatures"),
        ({"versions": ["v1a"], "secret": NEXT, "asymmetric": True}, "secret"),
    ],
)
def test_a_rotation_that_makes_no_sense_is_refused(how: dict[str, object], field: str) -> None:
    before = endpoint(signatures=("v1", "v1a") if how.pop("asymmetric", False) else ("v1",))
    with pytest.raises(Invalid) as caught:
        turn(before, **how)  # type: ignore[arg-type]
    assert [error.field for error in caught.value.errors] == [field]


def test_more_keys_than_a_receiver_looks_at_are_refused_and_make_room_when_they_expire() -> None:
    turned = endpoint()
    for number in range(MAX_RETIRED):
        turned = turn(turned, now=NOW + number)
    with pytest.raises(Conflict):
        turn(turned, now=NOW + MAX_RETIRED)
    assert len(turn(turned, now=NOW + 2 * DAY).retired) == 1


def test_a_secret_that_comes_back_does_not_expire() -> None:
    turned = turn(turn(endpoint(), secret=NEXT), now=NOW + 1, secret=SECRET)
    assert turned.secrets == (SECRET,)
    assert [each.key for each in turned.retired] == [NEXT]


def test_a_signing_key_is_made_when_it_is_first_asked_for_and_then_kept() -> None:
    plain, random = endpoint(), Bytes()
    assert with_signing_key(plain, random) is plain
    made = with_signing_key(endpoint(signatures=("v1", "v1a")), random)
    assert made.signing_key == "whsk_" + b64encode(bytes([1]) * 32).decode()
    assert with_signing_key(made, random) is made


def test_either_kind_may_be_rotated_alone() -> None:
    both = with_signing_key(endpoint(signatures=("v1", "v1a")), Bytes())
    turned = turn(both, versions=["v1a"])
    assert turned.secrets == both.secrets
    assert turned.signing_key != both.signing_key
    assert [each.key for each in turned.retired] == [both.signing_key]
    assert turn(both, versions=["v1"]).signing_key == both.signing_key
    assert signing(turn(both), NOW) == ["v1", "v1a", "v1", "v1a"]


def test_public_keys_are_those_that_sign_now_the_newest_first() -> None:
    old, new = ("whsk_" + b64encode(bytes([n]) * 32).decode() for n in (8, 9))
    turned = endpoint(
        signatures=("v1a",),
        signing_key=new,
        retired=(Retired(key=old, expires=NOW + DAY), Retired(key=SECRET, expires=NOW + DAY)),
    )
    assert public_keys(turned, NOW) == [
        (parse_signing_key(new).public, None),
        (parse_signing_key(old).public, NOW + DAY),
    ]
    assert len(public_keys(turned, NOW + DAY)) == 1
    assert public_keys(endpoint(signing_key=new), NOW) == []
    assert in_overlap(turned, NOW + DAY) == ()


def test_only_what_the_endpoint_asks_for_signs() -> None:
    key = "whsk_" + b64encode(bytes([9]) * 32).decode()
    assert signing(endpoint(signing_key=key), NOW) == ["v1"]
    assert signing(endpoint(signing_key=key, signatures=("v1a",)), NOW) == ["v1a"]
