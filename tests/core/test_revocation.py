"""Which tokens a revocation concerns."""

import pytest

from hookbrook.core.revocation import Revocation, kept_until
from hookbrook.core.token import Claims

SECOND = 1_000_000


def revocation(*, token: str = "", subject: str = "") -> Revocation:
    updated = 100 * SECOND + 500_000
    return Revocation(id="rev_1", token=token, subject=subject, expires=0, created=0, updated=updated)


def claims(**fields: object) -> Claims:
    values: dict[str, object] = {"exp": 1000.0, "sub": "ann", "jti": "one", **fields}
    return Claims(**values)  # type: ignore[arg-type]


def test_one_token_is_meant_by_its_id() -> None:
    assert revocation(token="one").concerns(claims())
    assert not revocation(token="two").concerns(claims())
    assert not revocation(token="two").concerns(claims(jti=None))


@pytest.mark.parametrize(("issued", "refused"), [(99.0, True), (100.0, True), (101.0, False), (None, True)])
def test_a_subject_is_meant_up_to_the_moment_of_the_revocation(issued: float | None, refused: bool) -> None:
    assert revocation(subject="ann").concerns(claims(iat=issued)) is refused
    assert not revocation(subject="bob").concerns(claims(iat=issued))


def test_it_is_kept_until_the_last_token_that_it_could_concern_has_expired() -> None:
    assert kept_until(0, 60) >= 60 * SECOND + 5 * SECOND
