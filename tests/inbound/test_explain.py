"""The operator is told the likely mistake; an honest refusal has no hint."""

from collections.abc import Mapping, Sequence
from hmac import digest

from hookbrook.inbound.explain import MAX_BODY, operator_hint
from hookbrook.inbound.recipe import Row
from hookbrook.inbound.request import Request
from hookbrook.inbound.verify import verify

NOW = 1_795_000_000


def stripe(body: bytes, secret: str = "s", at: int = NOW) -> list[tuple[bytes, bytes]]:
    signature = digest(secret.encode(), b"%d.%s" % (at, body), "sha256").hex()
    return [(b"stripe-signature", f"t={at},v1={signature}".encode())]


def hint(
    rows: Mapping[str, Row], provider: str, headers: Sequence[tuple[bytes, bytes]], body: bytes, *secrets: str
) -> str:
    request = Request(method="POST", headers=headers, body=body)
    verdict = verify(rows[provider], secrets, request, now=NOW)
    return operator_hint(rows[provider], secrets, request, verdict, rows, now=NOW)


def test_a_line_end_that_was_added_or_lost_is_found(rows: Mapping[str, Row]) -> None:
    assert "too many" in hint(rows, "stripe", stripe(b"{}"), b"{}\n", "s")
    assert "lost" in hint(rows, "stripe", stripe(b"{}\n"), b"{}", "s")


def test_white_space_around_the_secret_is_found(rows: Mapping[str, Row]) -> None:
    assert "white space" in hint(rows, "stripe", stripe(b"{}"), b"{}", "s\n")


def test_a_clock_that_is_off_is_told_from_a_forgery(rows: Mapping[str, Row]) -> None:
    assert "clock" in hint(rows, "stripe", stripe(b"{}", at=NOW - 4_000), b"{}", "s")
    assert "clock" in hint(rows, "stripe", stripe(b"{}", at=NOW + 4_000), b"{}", "s")
    assert hint(rows, "stripe", stripe(b"{}", at=NOW - 4_000, secret="x"), b"{}", "s") == ""


def test_another_providers_webhook_is_named(rows: Mapping[str, Row]) -> None:
    assert hint(rows, "github", stripe(b"{}"), b"{}", "s") == "It looks like a webhook of Stripe."
    assert hint(rows, "github", [], b"{}", "s") == ""


def test_a_source_without_a_secret_is_named(rows: Mapping[str, Row]) -> None:
    assert "no secret" in hint(rows, "github", stripe(b"{}"), b"{}")


def test_a_good_webhook_a_wrong_secret_and_a_huge_body_have_no_hint(rows: Mapping[str, Row]) -> None:
    assert hint(rows, "stripe", stripe(b"{}"), b"{}", "s") == ""
    assert hint(rows, "stripe", stripe(b"{}"), b"{}", "other") == ""
    assert hint(rows, "stripe", stripe(b"x" * MAX_BODY), b"x" * MAX_BODY + b"\n", "s") == ""
