"""Who is asking, and what they may do."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from tests.http.gateway_fixtures import NOW, SECOND, TOKEN_SECRET, House, gateway_in

from hookbrook.core.key import ApiKey, Scope
from hookbrook.core.revocation import Revocation
from hookbrook.core.token import SECRET_BYTES
from hookbrook.errors import BadRequest, Forbidden, Invalid, Problem, Unauthorized
from hookbrook.http.auth import Principal, TokenRequest, first_admin_key, new_key

NOW_S = NOW // SECOND


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with gateway_in(tmp_path) as house:
        yield house


def scope(
    *headers: tuple[str, str], query: str = "", method: str = "GET", client: Any = ("127.0.0.1", 1)
) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": "/v1/stream",
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost:4665"), *((name.encode(), value.encode()) for name, value in headers)],
        "client": client,
        "scheme": "http",
    }


def bearer(text: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {text}")


def cookie(text: str) -> tuple[str, str]:
    return ("cookie", f"theme=dark; hookbrook_token={text}; other=1")


def signed(claims: dict[str, Any], *, secret: bytes = TOKEN_SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"exp": NOW_S + 60, **claims}, secret, algorithm=algorithm)


def who(house: House, *headers: tuple[str, str], **more: Any) -> Principal:
    return house.gateway.auth.authenticate(scope(*headers, **more))


def refusal(house: House, *headers: tuple[str, str], **more: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        who(house, *headers, **more)
    return caught.value


# ---- API keys


async def test_a_key_brings_its_tenant_and_its_scopes(house: House) -> None:
    principal = who(house, bearer(await house.key(Scope.PUBLISH, tenant="acme")))
    assert (principal.kind, principal.tenant, principal.view) == ("key", "acme", "acme")
    assert principal.may_publish("anything.at.all")
    assert not principal.may_subscribe("chat")
    principal.require(Scope.PUBLISH)
    with pytest.raises(Forbidden):
        principal.require(Scope.ADMIN)


async def test_an_administrator_may_do_everything_and_chooses_a_tenant(house: House) -> None:
    plain = who(house, bearer(house.admin))
    assert (plain.tenant, plain.view) == ("default", None)
    chosen = who(house, bearer(house.admin), query="tenant=acme")
    assert (chosen.tenant, chosen.view) == ("acme", "acme")
    assert chosen.may_subscribe("*")
    assert chosen.may_subscribe("hookbrook.*")
    chosen.require(Scope.INGEST)


async def test_others_may_not_choose_a_tenant(house: House) -> None:
    key = await house.key(Scope.SUBSCRIBE, tenant="acme")
    assert who(house, bearer(key), query="tenant=acme").tenant == "acme"
    assert isinstance(refusal(house, bearer(key), query="tenant=other"), Forbidden)
    assert isinstance(refusal(house, bearer(key), query="%74enant=other"), Forbidden)
    token = signed({"tenant": "acme", "subscribe": ["a"]})
    assert isinstance(refusal(house, bearer(token), query="tenant=other"), Forbidden)
    assert isinstance(refusal(house, bearer(house.admin), query="tenant=a&tenant=b"), BadRequest)
    assert isinstance(refusal(house, bearer(house.admin), query="tenant=a%20b"), Invalid)


async def test_an_expired_and_a_deleted_key_are_refused(house: House) -> None:
    text, key = new_key(tenant="default", scopes=[Scope.PUBLISH], now=NOW, expires=NOW + 10 * SECOND)
    await house.gateway.catalog.save(key)
    assert who(house, bearer(text)).expires == NOW + 10 * SECOND
    house.clock.advance(10)
    assert isinstance(refusal(house, bearer(text)), Unauthorized)
    text = await house.key(Scope.PUBLISH)
    [made] = [key for key in house.gateway.catalog.keys.values() if key.hint == text[-4:]]
    await house.gateway.catalog.delete(ApiKey, made.id)
    assert isinstance(refusal(house, bearer(text)), Unauthorized)


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "hbk_x", "Bearer hbk_unknown", "Bearer a.b.c", "Bearer \xff\xfe"],
)
async def test_a_wrong_credential_is_never_taken_for_none(tmp_path: Path, value: str) -> None:
    for flags in ({}, {"public_channels": "*"}, {"dev": True}):
        async with gateway_in(tmp_path, **flags) as house:
            problem = refusal(house, ("authorization", value))
            assert isinstance(problem, Unauthorized)
            assert 'error="invalid_token"' in problem.headers["WWW-Authenticate"]
            for place in ({"query": "token="}, {"query": "token=nonsense"}, {"query": "%74oken=x"}):
                assert isinstance(refusal(house, **place), Unauthorized)
            assert isinstance(refusal(house, cookie("nonsense")), Unauthorized)


async def test_no_credential_is_refused_with_a_challenge(house: House) -> None:
    problem = refusal(house)
    assert isinstance(problem, Unauthorized)
    assert problem.headers["WWW-Authenticate"] == 'Bearer realm="hookbrook"'


async def test_a_key_is_only_taken_from_the_authorization_header(house: House) -> None:
    assert isinstance(refusal(house, query=f"token={house.admin}"), Unauthorized)
    assert isinstance(refusal(house, cookie(house.admin)), Unauthorized)


# ---- tokens


@pytest.mark.parametrize("place", ["header", "cookie", "query"])
async def test_a_token_is_taken_from_three_places(house: House, place: str) -> None:
    token = signed({"sub": "ann", "tenant": "acme", "subscribe": ["chat.*"], "publish": ["chat.1"]})
    headers = {"header": [bearer(token)], "cookie": [cookie(token)], "query": []}[place]
    principal = who(house, *headers, query=f"token={token}" if place == "query" else "")
    assert (principal.kind, principal.subject, principal.tenant) == ("token", "ann", "acme")
    assert principal.expires == (NOW_S + 60) * SECOND
    assert principal.may_subscribe("chat.7.messages")
    assert principal.may_subscribe("chat.7*")
    assert not principal.may_subscribe("chat*")
    assert not principal.may_subscribe("*")
    assert not principal.may_subscribe("hookbrook.live")
    assert principal.may_publish("chat.1")
    assert not principal.may_publish("chat.2")


async def test_a_granted_star_does_not_reach_our_own_channels(house: House) -> None:
    principal = who(house, bearer(signed({"subscribe": ["*"]})))
    assert principal.may_subscribe("*")
    assert not principal.may_subscribe("hookbrook.*")
    assert not principal.may_subscribe("hookbrook.unverified.in")


async def test_the_same_credential_twice_is_one_and_two_are_refused(house: House) -> None:
    one, other = signed({"subscribe": ["a"]}), signed({"subscribe": ["b"]})
    assert who(house, bearer(one), cookie(one), query=f"token={one}").subscribe == ("a",)
    for headers, query in (
        ([bearer(one), cookie(other)], ""),
        ([bearer(one)], f"token={other}"),
        ([cookie(one), cookie(other)], ""),
        ([bearer(one), bearer(house.admin)], ""),
        ([], f"token={one}&token={other}"),
    ):
        assert isinstance(refusal(house, *headers, query=query), BadRequest)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW_S - 60}, {"exp": None}, {"exp": "soon"}, {"nbf": NOW_S + 60}, {"subscribe": "chat"},
        {"subscribe": ["a b"]}, {"subscribe": [1]}, {"tenant": 1}, {"tenant": "a b"}, {"sub": 1}, {"publish": {}},
        {"aud": "somebody else"}, {"exp": 1e400}, {"exp": -1},
    ],
)  # fmt: skip
async def test_a_token_whose_claims_do_not_hold_is_refused(house: House, claims: dict[str, Any]) -> None:
    assert isinstance(refusal(house, bearer(signed({"subscribe": ["a"], **claims}))), Unauthorized)


async def test_a_token_without_an_expiry_is_refused(house: House) -> None:
    token = jwt.encode({"subscribe": ["a"]}, TOKEN_SECRET, algorithm="HS256")
    assert "expiry" in refusal(house, bearer(token)).detail


async def test_the_algorithm_comes_from_the_key_and_not_from_the_token(house: House) -> None:
    unsigned = jwt.encode({"exp": NOW_S + 60, "subscribe": ["a"]}, "", algorithm="none")
    assert isinstance(refusal(house, bearer(unsigned)), Unauthorized)
    longer = signed({"subscribe": ["a"]}, secret=TOKEN_SECRET * 2, algorithm="HS512")
    assert isinstance(refusal(house, bearer(longer)), Unauthorized)
    foreign = signed({"subscribe": ["a"]}, secret=b"x" * SECRET_BYTES)
    assert isinstance(refusal(house, bearer(foreign)), Unauthorized)


async def test_a_token_that_is_no_token_is_refused_without_an_error(house: House) -> None:
    header = urlsafe_b64encode(b"[" * 2000).decode()
    for text in (f"{header}.e30.x", "a" * 100_000, "..", "ey.ey.ey", "é.é.é"):
        assert isinstance(refusal(house, bearer(text)), Unauthorized)


async def test_a_token_ends_by_our_clock_with_a_little_leeway(house: House) -> None:
    token = signed({"subscribe": ["a"]})
    house.clock.advance(64)
    who(house, bearer(token))
    house.clock.advance(1)
    assert "expired" in refusal(house, bearer(token)).detail


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ([], False),
        ([("sec-fetch-site", "same-origin")], True),
        ([("sec-fetch-site", "same-site")], False),
        ([("sec-fetch-site", "cross-site"), ("origin", "http://localhost:4665")], False),
        ([("origin", "http://localhost:4665")], True),
        ([("origin", "http://localhost:4666")], False),
        ([("origin", "null")], False),
        ([("origin", "http://evil.example")], False),
    ],
)
async def test_a_cookie_authorises_a_write_only_from_our_own_page(
    house: House, headers: list[tuple[str, str]], allowed: bool
) -> None:
    token = signed({"publish": ["a"]})
    assert who(house, cookie(token), *headers).publish == ("a",), "reading is always possible"
    if allowed:
        assert who(house, cookie(token), *headers, method="POST").publish == ("a",)
    else:
        assert isinstance(refusal(house, cookie(token), *headers, method="POST"), Forbidden)
    assert who(house, bearer(token), *headers, method="POST").publish == ("a",), "a header is sent on purpose"


# ---- nothing shown


async def test_public_channels_need_nothing_and_nothing_else_does(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, public_channels="news,status.*") as house:
        principal = who(house)
        assert (principal.kind, principal.tenant) == ("anonymous", "default")
        principal.require_subscribe(["news", "status.eu", "status.*"])
        for channels in (["news", "chat"], ["*"], ["news*"]):
            with pytest.raises(Unauthorized) as caught:
                principal.require_subscribe(channels)
            assert "WWW-Authenticate" in caught.value.headers
        with pytest.raises(Unauthorized):
            principal.require_publish(["news"])
        with pytest.raises(Unauthorized):
            principal.require(Scope.ADMIN)
        assert isinstance(refusal(house, query="tenant=acme"), Unauthorized)


async def test_public_channels_are_those_of_the_default_tenant(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, public_channels="news") as house:
        assert who(house, bearer(signed({"subscribe": ["a"]}))).may_subscribe("news")
        assert who(house, bearer(await house.key(Scope.PUBLISH))).may_subscribe("news")
        assert not who(house, bearer(signed({"subscribe": ["a"], "tenant": "acme"}))).may_subscribe("news")


async def test_the_open_mode_makes_everybody_on_this_machine_an_administrator(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, dev=True) as house:
        assert who(house).is_admin
        assert (who(house, query="tenant=acme").tenant, who(house).view) == ("acme", None)
        assert who(house, client=None).is_admin
        assert isinstance(refusal(house, client=("203.0.113.9", 1)), Unauthorized)


# ---- minting


async def test_a_minted_token_grants_what_was_asked_and_no_more(house: House) -> None:
    admin = who(house, bearer(house.admin))
    minted = house.gateway.auth.mint(admin, TokenRequest(sub="ann", subscribe=("chat.*",), lifetime_s=60))
    assert minted.expires == NOW + 60 * SECOND
    principal = who(house, bearer(minted.token))
    assert (principal.subject, principal.subscribe, principal.publish) == ("ann", ("chat.*",), ())
    assert principal.scopes == {Scope.SUBSCRIBE}
    claims = jwt.decode(minted.token, options={"verify_signature": False})
    assert {"sub", "exp", "tenant", "subscribe", "publish"} <= set(claims)


async def test_grants_must_lie_within_the_minter_s_own(house: House) -> None:
    auth = house.gateway.auth
    publisher = who(house, bearer(await house.key(Scope.PUBLISH)))
    assert auth.mint(publisher, TokenRequest(publish=("a.*",))).token
    for request in (
        TokenRequest(subscribe=("a",)),
        TokenRequest(publish=("a",), subscribe=("a",)),
        TokenRequest(publish=("a",), tenant="acme"),
    ):
        with pytest.raises(Forbidden):
            auth.mint(publisher, request)
    subscriber = who(house, bearer(await house.key(Scope.SUBSCRIBE)))
    with pytest.raises(Forbidden):
        auth.mint(subscriber, TokenRequest(subscribe=("a",), publish=("a",)))


async def test_a_token_cannot_mint_another(house: House) -> None:
    principal = who(house, bearer(signed({"subscribe": ["a"]})))
    with pytest.raises(Forbidden):
        house.gateway.auth.mint(principal, TokenRequest(subscribe=("a",)))


async def test_a_token_does_not_outlive_the_key_that_made_it(house: House) -> None:
    text, key = new_key(tenant="default", scopes=[Scope.SUBSCRIBE], now=NOW, expires=NOW + 10 * SECOND)
    await house.gateway.catalog.save(key)
    minted = house.gateway.auth.mint(who(house, bearer(text)), TokenRequest(subscribe=("a",)))
    assert minted.expires == NOW + 10 * SECOND


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (TokenRequest(), "subscribe"),
        (TokenRequest(subscribe=("a b",)), "subscribe"),
        (TokenRequest(publish=("",)), "publish"),
        (TokenRequest(subscribe=("a",), lifetime_s=86401), "lifetime_s"),
        (TokenRequest(subscribe=("a",), lifetime_s=0), "lifetime_s"),
        (TokenRequest(subscribe=("a",), sub="x\n"), "sub"),
        (TokenRequest(subscribe=("a",), tenant="a b"), "tenant"),
        (TokenRequest(subscribe=tuple(f"{number:0100}" for number in range(60))), "subscribe"),
    ],
)
async def test_a_request_for_a_token_that_cannot_be_is_named(house: House, request_: TokenRequest, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        house.gateway.auth.mint(who(house, bearer(house.admin)), request_)
    assert [error.field for error in caught.value.errors] == [field]


# ---- the first key


async def test_the_first_start_makes_an_administrator_s_key_once(house: House) -> None:
    catalog = house.gateway.catalog
    assert await first_admin_key(catalog, now=NOW) is None
    for key in list(catalog.keys.values()):
        await catalog.delete(ApiKey, key.id)
    text = await first_admin_key(catalog, now=NOW)
    assert text is not None
    assert who(house, bearer(text)).is_admin
    assert await first_admin_key(catalog, now=NOW) is None
    files = tuple(house.gateway.settings.folder.glob("hookbrook.db*"))
    assert files
    assert not any(text.encode() in file.read_bytes() for file in files), "a key is kept as its hash only"


async def test_an_expired_administrator_does_not_lock_everybody_out(house: House) -> None:
    catalog = house.gateway.catalog
    for key in list(catalog.keys.values()):
        await catalog.delete(ApiKey, key.id)
    _, key = new_key(tenant="default", scopes=[Scope.ADMIN], now=NOW, expires=NOW + SECOND)
    await catalog.save(key)
    assert await first_admin_key(catalog, now=NOW) is None
    assert await first_admin_key(catalog, now=NOW + SECOND) is not None


# ---- revocations


async def test_revocations_that_no_token_can_need_any_more_are_removed(house: House) -> None:
    minted = house.gateway.auth.mint(who(house, bearer(house.admin)), TokenRequest(sub="ann", subscribe=("a",)))
    assert (await house.ask("DELETE", f"/v1/tokens/{minted.id}")).status == 200
    assert "revoked" in refusal(house, bearer(minted.token)).detail
    assert len(await house.gateway.store.records(Revocation)) == 1
    house.clock.advance(86_400 + 20)
    assert "expired" in refusal(house, bearer(minted.token)).detail
    assert (await house.ask("DELETE", "/v1/tokens/another")).status == 200
    (left,) = await house.gateway.store.records(Revocation)
    assert left.token == "another"


async def test_a_token_ends_with_the_key_that_minted_it(house: House) -> None:
    text = await house.key(Scope.SUBSCRIBE)
    key = who(house, bearer(text))
    minted = house.gateway.auth.mint(key, TokenRequest(subscribe=("a",)))
    principal = who(house, bearer(minted.token))
    house.gateway.auth.check_holds(principal)
    await house.gateway.catalog.delete(ApiKey, key.subject)
    assert "key" in refusal(house, bearer(minted.token)).detail
    for ended in (key, principal):
        with pytest.raises(Unauthorized):
            house.gateway.auth.check_holds(ended)


async def test_a_credential_that_expires_in_a_long_request_does_not_hold_any_more(house: House) -> None:
    minted = house.gateway.auth.mint(who(house, bearer(house.admin)), TokenRequest(subscribe=("a",), lifetime_s=10))
    principal = who(house, bearer(minted.token))
    house.clock.advance(9)
    house.gateway.auth.check_holds(principal)
    house.clock.advance(1)
    with pytest.raises(Unauthorized, match="expired"):
        house.gateway.auth.check_holds(principal)
