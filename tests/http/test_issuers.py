"""Tokens of other issuers: whose they are, with which key, and where the keys come from."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.http.gateway_fixtures import NOW, SECOND, TOKEN_SECRET, Clock
from tests.served import running

from hookbrook.config import load
from hookbrook.core.fetch import Request, Response, Timing, Unreachable
from hookbrook.core.issuer import read_issuers
from hookbrook.errors import ConfigError, Forbidden, Unauthorized
from hookbrook.http.auth import Auth, Principal
from hookbrook.http.issuers import FRESH_S, LOOK_S, REFETCH_S, STALE_S, Issuers
from hookbrook.http.problems import Receive, Scope, Send
from hookbrook.http.server import Server
from hookbrook.store.catalog import Catalog
from hookbrook.store.sqlite import SqliteStore

NOW_S = NOW // SECOND
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = "a secret that two programs share, long enough for all the hashes of HMAC"
NAME = "https://id.example.com"
URL = "https://id.example.com/keys.json"


def jwk(private: Any, kid: str | None = None) -> dict[str, Any]:
    kinds: list[tuple[type, Any]] = [
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
        (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
    ]
    algorithm = next(found for kind, found in kinds if isinstance(private, kind))
    return {**json.loads(algorithm.to_jwk(private.public_key())), **({} if kid is None else {"kid": kid})}


def key_set(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(key: Any, algorithm: str, *, kid: str | None = None, **claims: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    payload = {"iss": NAME, "exp": NOW_S + 60, "sub": "ann", "subscribe": ["a.*"], **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


@dataclass
class Provider:
    """An identity provider behind the `Fetch` port: what it answers, and how often it was asked."""

    body: bytes = b""
    status: int = 200
    asked: list[Request] = field(default_factory=list)
    gate: asyncio.Event | None = None
    broken: bool = False

    async def send(self, request: Request) -> Response:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise Unreachable("no route")
        timing = Timing(total=1)
        return Response(status=self.status, headers=(), body=self.body, address="192.0.2.1:443", timing=timing)


@dataclass(kw_only=True)
class Door:
    """`Auth` with issuers, on a clock that a test moves."""

    auth: Auth
    clock: Clock
    provider: Provider

    async def who(self, text: str) -> Principal:
        return await self.auth.identify(
            {"method": "GET", "headers": [(b"authorization", b"Bearer " + text.encode())], "query_string": b""}
        )

    async def refusal(self, text: str) -> str:
        with pytest.raises((Unauthorized, Forbidden)) as refused:
            await self.who(text)
        return refused.value.detail


@asynccontextmanager
async def door_with(folder: Path, *tables: dict[str, Any], provider: Provider | None = None) -> AsyncIterator[Door]:
    clock, provider = Clock(), provider or Provider()
    store = SqliteStore(folder / "log.db", clock=clock)
    await store.open()
    try:
        catalog = Catalog(store)
        await catalog.load()
        issuers = Issuers(
            read_issuers(list(tables), {"SHARED": SECRET}, folder, allowed=()),
            fetch=provider,
            now=lambda: clock() / SECOND,
        )
        settings = load({}, {}, folder)
        auth = Auth(catalog, settings=settings, token_secret=TOKEN_SECRET, clock=clock, issuers=issuers)
        yield Door(auth=auth, clock=clock, provider=provider)
    finally:
        await store.close()


async def settled() -> None:
    """Let a fetch in the background come to its end."""
    for _ in range(5):
        await asyncio.sleep(0)


# Keys and algorithms


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_a_public_key_in_a_file_verifies_by_its_own_algorithm(tmp_path: Path, key: Any, algorithm: str) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(jwk(key, "one")))
    async with door_with(tmp_path, {"issuer": NAME, "keys_file": "keys.json", "tenant": "acme"}) as door:
        principal = await door.who(token(key, algorithm, kid="one"))
        assert (principal.kind, principal.tenant, principal.view) == ("token", "acme", "acme")
        assert (principal.subject, principal.subscribe, principal.publish) == ("ann", ("a.*",), ())
        assert principal.expires == (NOW_S + 60) * SECOND


async def test_a_shared_secret_verifies_hs256(tmp_path: Path) -> None:
    async with door_with(tmp_path, {"issuer": NAME, "secret": "${SHARED}"}) as door:
        assert (await door.who(token(SECRET, "HS256"))).subject == "ann"
        assert "not valid" in await door.refusal(token(SECRET, "HS384"))
        assert "not valid" in await door.refusal(token("x" * 32, "HS256"))


async def test_a_token_cannot_choose_its_algorithm(tmp_path: Path) -> None:
    """The classic: a token signed by HS256 with the public key, which everybody knows, as the secret."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(public)
    async with door_with(tmp_path, {"issuer": NAME, "keys_file": "key.pem"}) as door:
        assert (await door.who(token(RSA, "RS256"))).subject == "ann"
        signer = jwt.PyJWS()
        payload = json.dumps({"iss": NAME, "exp": NOW_S + 60, "subscribe": ["a"]}).encode()
        signer._algorithms["HS256"].prepare_key = lambda key: key  # type: ignore[method-assign]
        forged = signer.encode(payload, public, algorithm="HS256")
        assert "not valid" in await door.refusal(forged)
        assert "not valid" in await door.refusal(token(None, "none"))
        assert "not valid" in await door.refusal(token(RSA, "RS512"))
        assert "not valid" in await door.refusal(token(RSA, "PS256"))


async def test_a_token_without_a_key_id_is_tried_with_each_key(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(jwk(EC, "a"), jwk(RSA, "b"), jwk(ED, "c")))
    async with door_with(tmp_path, {"issuer": NAME, "keys_file": "keys.json"}) as door:
        for key, algorithm in ((EC, "ES256"), (RSA, "RS256"), (ED, "EdDSA")):
            assert (await door.who(token(key, algorithm))).subject == "ann"
        assert "not valid" in await door.refusal(token(OTHER_EC, "ES256"))
        assert "not valid" in await door.refusal(token(EC, "ES256", kid="b"))
        assert "key is not known" in await door.refusal(token(EC, "ES256", kid="d"))


# Claims


async def test_an_issuer_belongs_to_one_tenant_and_its_tokens_open_no_other(tmp_path: Path) -> None:
    other = "https://other.example.com"
    tables: Sequence[dict[str, Any]] = (
        {"issuer": NAME, "secret": SECRET, "tenant": "acme"},
        {"issuer": other, "secret": "x" * 40, "tenant": "umbrella"},
    )
    async with door_with(tmp_path, *tables) as door:
        assert (await door.who(token(SECRET, "HS256"))).tenant == "acme"
        assert (await door.who(token(SECRET, "HS256", tenant="acme"))).tenant == "acme"
        assert "tenant" in await door.refusal(token(SECRET, "HS256", tenant="umbrella"))
        assert "not valid" in await door.refusal(token(SECRET, "HS256", iss=other))
        assert "issuer is not known" in await door.refusal(token(SECRET, "HS256", iss="https://nobody"))
        # Without an issuer it would be one of ours, and is not.
        assert "not valid" in await door.refusal(token(SECRET, "HS256", iss=None))


async def test_tokens_of_our_own_are_good_beside_those_of_others(tmp_path: Path) -> None:
    async with door_with(tmp_path, {"issuer": NAME, "secret": SECRET}) as door:
        ours = jwt.encode({"exp": NOW_S + 60, "subscribe": ["b"]}, TOKEN_SECRET, algorithm="HS256")
        assert (await door.who(ours)).subscribe == ("b",)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": None}, "expiry"),
        ({"exp": NOW_S - 60}, "expired"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": NOW_S + 31 * 86400}, "max_lifetime"),
        ({"nbf": NOW_S + 60}, "not valid yet"),
        ({"sub": 7}, "sub"),
        ({"sub": "a\nb"}, "sub"),
        ({"subscribe": ["a b"]}, "subscribe"),
        ({"subscribe": {"a": 1}}, "subscribe"),
        ({"subscribe": [f"a{n}" for n in range(101)]}, "subscribe"),
        ({"jti": 7}, "jti"),
    ],
)
async def test_claims_that_do_not_hold_are_refused(tmp_path: Path, claims: dict[str, Any], said: str) -> None:
    async with door_with(tmp_path, {"issuer": NAME, "secret": SECRET}) as door:
        assert said in await door.refusal(token(SECRET, "HS256", **claims))


async def test_an_audience_that_is_set_must_be_named(tmp_path: Path) -> None:
    async with door_with(tmp_path, {"issuer": NAME, "secret": SECRET, "audience": "hookbrook"}) as door:
        for good in ("hookbrook", ["x", "hookbrook"]):
            assert (await door.who(token(SECRET, "HS256", aud=good))).subject == "ann"
        for bad in (None, "other", ["other"], 7):
            assert "audience" in await door.refusal(token(SECRET, "HS256", aud=bad))


async def test_patterns_may_stand_under_names_of_the_issuers_own(tmp_path: Path) -> None:
    table = {"issuer": NAME, "secret": SECRET, "subscribe_claim": "https://x/read", "publish_claim": "write"}
    claims: dict[str, Any] = {"https://x/read": "one.*", "write": ["two"]}
    async with door_with(tmp_path, table) as door:
        principal = await door.who(token(SECRET, "HS256", kid=None, **claims))
        assert (principal.subscribe, principal.publish) == (("one.*",), ("two",))


# Files


async def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(EC, "old")))
    async with door_with(tmp_path, {"issuer": NAME, "keys_file": "keys.json"}) as door:
        assert (await door.who(token(EC, "ES256"))).subject == "ann"
        path.write_bytes(key_set(jwk(OTHER_EC, "new")))
        assert (await door.who(token(EC, "ES256"))).subject == "ann"
        door.clock.advance(LOOK_S)
        assert (await door.who(token(OTHER_EC, "ES256"))).subject == "ann"
        assert "not valid" in await door.refusal(token(EC, "ES256"))


async def test_a_file_that_was_damaged_leaves_the_last_good_keys_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk(EC)))
    async with door_with(tmp_path, {"issuer": NAME, "keys_file": "keys.json"}) as door:
        for damage in (lambda: path.write_bytes(b"{"), path.unlink):
            damage()
            door.clock.advance(LOOK_S)
            assert (await door.who(token(EC, "ES256"))).subject == "ann"
            assert "stay in use" in caplog.records[-1].message
        path.write_bytes(key_set(jwk(OTHER_EC)))
        door.clock.advance(LOOK_S)
        assert (await door.who(token(OTHER_EC, "ES256"))).subject == "ann"


async def test_a_file_that_cannot_be_used_stops_the_start_and_is_named(tmp_path: Path) -> None:
    for content in (None, b"{}", b"nonsense"):
        if content is not None:
            (tmp_path / "keys.json").write_bytes(content)
        with pytest.raises(ConfigError, match=r"issuers\[0\]\.keys_file"):
            async with door_with(tmp_path, {"issuer": NAME, "keys_file": "keys.json"}):
                pass


# URLs

BY_URL = {"issuer": NAME, "keys_url": URL}


async def test_keys_are_fetched_when_the_first_token_comes_and_then_kept(tmp_path: Path) -> None:
    provider = Provider(key_set(jwk(EC, "one")))
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        assert provider.asked == []
        for _ in range(5):
            assert (await door.who(token(EC, "ES256", kid="one"))).subject == "ann"
        assert [request.url for request in provider.asked] == [URL]


async def test_many_first_tokens_wait_for_one_fetch(tmp_path: Path) -> None:
    provider = Provider(key_set(jwk(EC, "one")), gate=asyncio.Event())
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        waiting = [asyncio.ensure_future(door.who(token(EC, "ES256", kid="one"))) for _ in range(20)]
        await settled()
        # One that leaves does not take the fetch with him.
        waiting.pop(0).cancel()
        await settled()
        assert provider.gate is not None
        provider.gate.set()
        assert {principal.subject for principal in await asyncio.gather(*waiting)} == {"ann"}
        assert len(provider.asked) == 1


async def test_an_unknown_key_id_fetches_again_but_not_more_often_than_allowed(tmp_path: Path) -> None:
    provider = Provider(key_set(jwk(EC, "old")))
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        await door.who(token(EC, "ES256", kid="old"))
        provider.body = key_set(jwk(EC, "old"), jwk(OTHER_EC, "new"))
        assert "key is not known" in await door.refusal(token(OTHER_EC, "ES256", kid="new"))
        door.clock.advance(REFETCH_S)
        assert (await door.who(token(OTHER_EC, "ES256", kid="new"))).subject == "ann"
        assert len(provider.asked) == 2
        for number in range(50):
            assert "key is not known" in await door.refusal(token(EC, "ES256", kid=f"made-up-{number}"))
        assert len(provider.asked) == 2


async def test_a_set_that_is_no_longer_fresh_is_fetched_in_the_background(tmp_path: Path) -> None:
    provider = Provider(key_set(jwk(EC, "one")))
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        await door.who(token(EC, "ES256", kid="one"))
        provider.body = key_set(jwk(OTHER_EC, "two"))
        door.clock.advance(FRESH_S)
        assert (await door.who(token(EC, "ES256", kid="one", exp=NOW_S + 1000))).subject == "ann"
        await settled()
        assert len(provider.asked) == 2
        assert "key is not known" in await door.refusal(token(EC, "ES256", kid="one", exp=NOW_S + 1000))


@pytest.mark.parametrize("how", ["unreachable", "500", "empty", "oct"])
async def test_a_provider_in_trouble_leaves_the_last_good_keys_for_a_day(tmp_path: Path, how: str) -> None:
    provider = Provider(key_set(jwk(EC, "one")))
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        await door.who(token(EC, "ES256", kid="one"))
        provider.broken, provider.status = how == "unreachable", 500 if how == "500" else 200
        provider.body = key_set({"kty": "oct", "k": "A" * 43}) if how == "oct" else b""
        door.clock.advance(STALE_S - 60)
        late = NOW_S + STALE_S + 600
        assert (await door.who(token(EC, "ES256", kid="one", exp=late))).subject == "ann"
        await settled()
        assert len(provider.asked) == 2
        assert (await door.who(token(EC, "ES256", kid="one", exp=late))).subject == "ann"
        door.clock.advance(60)
        assert "key is not known" in await door.refusal(token(EC, "ES256", kid="one", exp=late))


async def test_a_provider_that_is_down_at_first_is_asked_again_later(tmp_path: Path) -> None:
    provider = Provider(key_set(jwk(EC, "one")), broken=True)
    async with door_with(tmp_path, BY_URL, provider=provider) as door:
        assert "key is not known" in await door.refusal(token(EC, "ES256", kid="one"))
        provider.broken = False
        assert "key is not known" in await door.refusal(token(EC, "ES256", kid="one"))
        assert len(provider.asked) == 1
        door.clock.advance(REFETCH_S)
        assert (await door.who(token(EC, "ES256", kid="one"))).subject == "ann"


# Configuration


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({}, "issuer"),
        ({"issuer": NAME}, "keys_url"),
        ({"issuer": NAME, "secret": SECRET, "keys_file": "x"}, "keys_url"),
        ({"issuer": NAME, "secret": "short"}, "secret"),
        ({"issuer": NAME, "secret": "${NOWHERE}"}, "secret"),
        ({"issuer": NAME, "secret": 7}, "secret"),
        ({"issuer": NAME, "keys_url": "http://id.example.com/"}, "keys_url"),
        ({"issuer": NAME, "keys_url": "nonsense"}, "keys_url"),
        ({"issuer": NAME, "secret": SECRET, "tenant": "a b"}, "tenant"),
        ({"issuer": NAME, "secret": SECRET, "max_lifetime": "long"}, "max_lifetime"),
        ({"issuer": NAME, "secret": SECRET, "max_lifetime": "10000d"}, "max_lifetime"),
        ({"issuer": NAME, "secret": SECRET, "algorithm": "HS256"}, "algorithm"),
        ({"issuer": "", "secret": SECRET}, "issuer"),
    ],
)
def test_a_wrong_issuer_stops_the_start_and_names_its_key(tmp_path: Path, table: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_issuers([table], {}, tmp_path, allowed=())
    assert refused.value.key == f"issuers[0].{key}"
    assert SECRET not in str(refused.value)


def test_an_issuer_is_declared_once(tmp_path: Path) -> None:
    table = {"issuer": NAME, "secret": SECRET}
    with pytest.raises(ConfigError, match=r"issuers\[1\]\.issuer"):
        read_issuers([table, {**table, "tenant": "other"}], {}, tmp_path, allowed=())


async def test_an_issuer_of_the_file_opens_streams_and_publishes_through_a_whole_server(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_bytes(key_set(jwk(ED, "one")))
    (tmp_path / "hookbrook.toml").write_text(f'[[issuers]]\nissuer = "{NAME}"\nkeys_file = "keys.json"\n', "utf-8")
    async with running(tmp_path, dev=False) as brook:
        text = jwt.encode(
            {"iss": NAME, "exp": 4_000_000_000, "sub": "ann", "subscribe": ["a"], "publish": ["a"]},
            ED,
            algorithm="EdDSA",
        )
        far = await brook.http.get("/v1/channels/a", headers={"authorization": f"Bearer {text}"})
        assert "max_lifetime" in far.json()["detail"]
        issued = jwt.encode(
            {"iss": NAME, "exp": brook.app._clock() // SECOND + 60, "subscribe": ["a"], "publish": ["a"]},
            ED,
            algorithm="EdDSA",
        )
        listener = await brook.listen(f"/v1/channels/a?token={issued}")
        sent = await brook.http.post("/v1/channels/a", content=b"hi", headers={"authorization": f"Bearer {issued}"})
        assert sent.status_code == 201
        assert await listener.data(1) == ["hi"]


async def test_a_first_token_waits_for_the_keys_at_every_door_of_a_whole_server(tmp_path: Path) -> None:
    asked: list[str] = []

    async def provider(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        body = key_set(jwk(EC, f"key-{len(asked)}"))
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    doors = ["/v1/channels/a", "/v1/events", "/v1/stream?channel=a", "/v1/connections"]
    for number, path in enumerate(doors):
        server = Server(provider, host="127.0.0.1", port=0)
        await server.start()
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "hookbrook.toml").write_text(
            f'[[issuers]]\nissuer = "{NAME}"\nkeys_url = "http://127.0.0.1:{server.port}/keys"\n', "utf-8"
        )
        async with running(folder, dev=False, allow_networks="127.0.0.0/8") as brook:
            exp = brook.app._clock() // SECOND + 60
            text = token(EC, "ES256", kid=f"key-{len(asked) + 1}", exp=exp, subscribe=["a"], publish=["a"])
            headers = {"authorization": f"Bearer {text}"}
            if path == "/v1/events":
                answer = await brook.http.post(path, json={"channel": "a", "data": 1}, headers=headers)
                assert answer.status_code == 201, answer.text
            elif "stream" in path:
                assert (await brook.listen(path, **headers)).status == 200
            else:
                # Known, and then refused: it is no administrator's.
                expected = 403 if path == "/v1/connections" else 200
                assert (await brook.http.get(path, headers=headers)).status_code == expected
            unknown = token(EC, "ES256", kid="none", exp=exp)
            refused = await brook.http.get("/v1/channels/a", headers={"authorization": f"Bearer {unknown}"})
            assert refused.status_code == 401
            assert "invalid_token" in refused.headers["www-authenticate"]
        await server.finish(1)
    assert asked == ["/keys"] * len(doors)
