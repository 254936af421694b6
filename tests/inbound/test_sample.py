"""Each sample, signed, is what its provider would send: verified, of its type, and like no other."""

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

import pytest
from tests.inbound.judge import URL, Sent
from tests.inbound.python_judges import PYTHON_JUDGES
from tests.inbound.test_sign import held_for, secret_for

from hookbrook.core.event import is_json
from hookbrook.inbound.batch import split
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.sample import load, request_of
from hookbrook.inbound.sign import sign
from hookbrook.inbound.verify import dedupe_id, verify

SAMPLES = load()
EACH = pytest.mark.parametrize(
    ("provider", "type_"), [(provider, type_) for provider, types in SAMPLES.items() for type_ in types]
)


def signed(row: Row, type_: str, seed: bytes = b"1", now: float | None = None) -> Request:
    now = time.time() if now is None else now
    request = request_of(SAMPLES[row.id][type_], url=URL, now=now, seed=seed)
    return sign(row, secret_for(row), request, now=now, id_=f"msg_{seed.hex()}")


def test_there_are_samples_of_many_providers() -> None:
    assert len(SAMPLES) >= 20
    assert {"stripe", "github", "slack", "zoom", "shopify"} <= set(SAMPLES)


@EACH
def test_a_sample_is_verified_and_its_type_is_the_one_that_it_is_listed_by(
    provider: str, type_: str, rows: Mapping[str, Row]
) -> None:
    row = rows[provider]
    request = signed(row, type_)
    verdict = verify(row, [held_for(row)], request, now=time.time())
    assert (verdict.ok, verdict.detail) == (True, "")
    events = split(row, request) or [request]
    assert type_ in [row.type.render(event.document_of(row.type.reads)) for event in events]


@EACH
def test_a_sample_is_readable_and_no_placeholder_is_left(provider: str, type_: str, rows: Mapping[str, Row]) -> None:
    request = signed(rows[provider], type_)
    assert b"${" not in request.body
    assert is_json(request.body) or parse_qsl(request.body.decode(), strict_parsing=True)
    assert all(b"${" not in value for _, value in request.headers)


@EACH
def test_two_of_one_kind_are_not_taken_for_repeats(provider: str, type_: str, rows: Mapping[str, Row]) -> None:
    row = rows[provider]
    one, two, same = (signed(row, type_, seed, now=1_795_000_000) for seed in (b"1", b"2", b"1"))
    ids = [[dedupe_id(row, event) for event in split(row, each) or [each]] for each in (one, two, same)]
    assert ids[0] == ids[2]
    assert set(ids[0]).isdisjoint(ids[1])


@pytest.mark.parametrize("provider", ["stripe", "slack", "standard-webhooks", "razorpay", "gitlab", "square", "adyen"])
def test_the_providers_own_code_accepts_a_sample(provider: str, rows: Mapping[str, Row]) -> None:
    judge = next(judge for judge in PYTHON_JUDGES if judge.provider == provider)
    for type_ in SAMPLES[provider]:
        request = signed(rows[provider], type_)
        headers = {name.decode(): value.decode() for name, value in request.headers}
        assert judge.accepts(secret_for(rows[provider]), Sent(headers=headers, body=request.body.decode(), url=URL))
