"""Who is asking, and what they may do.

A request shows an API key or a stream token, ours or another issuer's, in `Authorization: Bearer …`, or a token in the
`hookbrook_token` cookie or as `?token=`. What is shown must hold: a wrong credential is refused even where none is
needed, so that a program with an expired token finds out instead of silently seeing less. Nothing shown means the
public channels, or with `--dev` everything.

A cookie is sent by a browser whichever page made it ask. So it authorises reading, and writing only when the browser
says that the page is our own.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, NoReturn
from urllib.parse import parse_qsl

import msgspec

from hookbrook.config import Settings, is_loopback
from hookbrook.core.channel import RESERVED, check_patterns, covers, matches
from hookbrook.core.event import DEFAULT_TENANT
from hookbrook.core.ids import ID_BYTES, new_id
from hookbrook.core.key import PREFIX, RANDOM_BYTES, ApiKey, Scope, hash_key
from hookbrook.core.registration import check_all, check_tenant
from hookbrook.core.token import (
    MAX_SUBJECT_LENGTH,
    MAX_TOKEN_LENGTH,
    Claims,
    TokenError,
    TokenExpired,
    decode,
    encode,
    peek,
)
from hookbrook.core.units import format_duration
from hookbrook.errors import BadRequest, FieldError, Forbidden, Invalid, Unauthorized
from hookbrook.http.issuers import CHALLENGE, Issuers, KeysMissing
from hookbrook.http.problems import Scope as AsgiScope
from hookbrook.store.catalog import Catalog

COOKIE: Final = "hookbrook_token"
#: Methods that change nothing (RFC 9110 section 9.2.1).
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
#: A query of more parts is none of ours.
MAX_QUERY_FIELDS: Final = 1000

#: What a key without patterns of its own may touch: all channels, and our own events when they are asked for by name.
EVERYTHING: Final = ("*", f"{RESERVED}*")


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever made a request, and what they may do."""

    kind: Literal["key", "token", "dev", "anonymous"]
    #: Whose events are meant.
    tenant: str
    #: The same, or None for an administrator who named no tenant and so sees all of them.
    view: str | None
    scopes: frozenset[Scope] = frozenset()
    #: Channel patterns.
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    #: The key's id or the token's `sub`.
    subject: str = ""
    #: When the credential ends, in microseconds, or None.
    expires: int | None = None
    #: What the token says, if it is one.
    claims: Claims | None = None

    @property
    def rests_on(self) -> tuple[str, ...]:
        """Ids of what the right rests on, and ends with: a key, or a token and the key that minted it."""
        if self.claims is not None:
            return tuple(filter(None, (self.claims.jti, self.claims.key)))
        return (self.subject,) if self.kind == "key" else ()

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def may_subscribe(self, pattern: str) -> bool:
        """Whether every channel that the pattern matches may be read."""
        return _is_granted(self.subscribe, pattern)

    def may_publish(self, channel: str) -> bool:
        # Asked for each event: a loop costs a third of what `any` over a generator does.
        for granted in self.publish:  # noqa: SIM110
            if matches(granted, channel):
                return True
        return False

    def require(self, scope: Scope) -> None:
        """Raises `Unauthorized` if nothing was shown, `Forbidden` if what was shown lacks the scope."""
        if scope not in self.scopes and not self.is_admin:
            self._refuse(f"This needs the scope {scope}.")

    def require_subscribe(self, patterns: Iterable[str]) -> None:
        """As `require`, for channels or patterns that are to be read."""
        for pattern in patterns:
            if not self.may_subscribe(pattern):
                self._refuse(f"Reading {pattern} is not granted.")

    def require_publish(self, channels: Iterable[str]) -> None:
        """As `require`, for channels that are to be written."""
        for channel in channels:
            if not self.may_publish(channel):
                self._refuse(f"Publishing to {channel} is not granted.")

    def require_tenant(self, tenant: str) -> None:
        """Raises `Forbidden` unless the tenant is the own one, or an administrator asks."""
        if tenant != self.tenant and not self.is_admin:
            raise Forbidden(f"The tenant {tenant!r} is not yours.")

    def _refuse(self, sentence: str) -> NoReturn:
        if self.kind == "anonymous":
            raise unauthorized(f"{sentence} Send an API key or a token.")
        raise Forbidden(sentence)


@lru_cache(maxsize=256)
def _is_granted(granted: tuple[str, ...], pattern: str) -> bool:
    """Remembered, since a herd of readers asks for the same; so few, since a token may grant a hundred patterns."""
    return any(covers(each, pattern) for each in granted)


class CredentialExpired(Unauthorized):
    """What was shown held once, and would again with a later end."""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a token is asked to say."""

    sub: str = ""
    #: None: the minter's own.
    tenant: str | None = None
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    #: Seconds; None for the default.
    lifetime_s: float | None = None


class Minted(msgspec.Struct, frozen=True, kw_only=True):
    #: Its `jti`, by which it can be revoked.
    id: str
    token: str
    #: Microseconds.
    expires: int


class Auth:
    """Reads credentials and makes tokens; holds nothing but where to look."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        settings: Settings,
        token_secret: bytes,
        clock: Callable[[], int],
        issuers: Issuers | None = None,
    ) -> None:
        self._issuers = issuers
        self._catalog = catalog
        self._settings = settings
        self._secret = token_secret
        self._clock = clock
        self._public = settings.public_channels

    async def identify(self, scope: AsgiScope) -> Principal:
        """As `authenticate`, after waiting for another issuer's keys if that may help."""
        try:
            return self.authenticate(scope)
        except KeysMissing as missing:
            await missing.wait()
        return self.authenticate(scope)

    def authenticate(self, scope: AsgiScope) -> Principal:
        """Who made the request of this ASGI scope.

        Raises `Unauthorized` for a credential that does not hold, or none where one is needed; `Forbidden` for
        another's tenant, or a cookie on a write from another page; `BadRequest` for two different credentials.
        """
        shown, tenant = _read_credential(scope)
        if tenant is not None:
            check_tenant("tenant", tenant)
        if shown is None:
            return self._without_credential(scope, tenant)
        if shown.startswith(PREFIX):
            return self._by_key(shown, tenant)
        return self._by_token(shown, tenant)

    def _by_key(self, text: str, tenant: str | None) -> Principal:
        key = self._catalog.keys.get(hash_key(text))
        if key is None:
            raise unauthorized("The API key is not known.", invalid=True)
        if key.expires is not None and self._clock() >= key.expires:
            raise unauthorized("The API key has expired.", invalid=True)
        admin = Scope.ADMIN in key.scopes
        if tenant is not None and tenant != key.tenant and not admin:
            raise Forbidden(f"The tenant {tenant!r} is not yours.")
        chosen = tenant or key.tenant
        return Principal(
            kind="key",
            tenant=chosen,
            view=tenant if admin else key.tenant,
            scopes=frozenset(key.scopes),
            subscribe=EVERYTHING if admin or Scope.SUBSCRIBE in key.scopes else self._public_of(chosen),
            publish=EVERYTHING if admin or Scope.PUBLISH in key.scopes else (),
            subject=key.id,
            expires=key.expires,
        )

    def _by_token(self, text: str, tenant: str | None) -> Principal:
        try:
            claims = self._claims(text)
        except TokenError as exc:
            refusal = unauthorized(str(exc), invalid=True)
            if isinstance(exc, TokenExpired):
                raise CredentialExpired(refusal.detail, headers=refusal.headers) from exc
            raise refusal from exc
        self._check_not_ended(claims)
        if tenant is not None and tenant != claims.tenant:
            raise Forbidden(f"The tenant {tenant!r} is not yours.")
        granted = [(Scope.SUBSCRIBE, claims.subscribe), (Scope.PUBLISH, claims.publish)]
        return Principal(
            kind="token",
            tenant=claims.tenant,
            view=claims.tenant,
            scopes=frozenset(scope for scope, patterns in granted if patterns),
            subscribe=claims.subscribe + self._public_of(claims.tenant),
            publish=claims.publish,
            subject=claims.sub,
            expires=round(claims.exp * 1_000_000),
            claims=claims,
        )

    def _claims(self, text: str) -> Claims:
        now_s = self._clock() / 1_000_000
        # A token of ours names no issuer.
        if self._issuers and (said := peek(text)).iss is not None:
            return self._issuers.claims(text, said, now_s=now_s)
        return decode(text, self._secret, now_s=now_s)

    def _check_not_ended(self, claims: Claims) -> None:
        if self._catalog.is_revoked(claims.tenant, claims):
            raise unauthorized("The token was revoked.", invalid=True)
        if claims.key is not None and claims.key not in self._catalog.key_ids:
            raise unauthorized("The key that minted the token was deleted.", invalid=True)

    def check_holds(self, principal: Principal) -> None:
        """Raises `Unauthorized` if what was shown at the beginning of a long request does not hold any more."""
        if principal.expires is not None and self._clock() >= principal.expires:
            raise unauthorized("The credential has expired.", invalid=True)
        if principal.claims is not None:
            self._check_not_ended(principal.claims)
        elif principal.kind == "key" and principal.subject not in self._catalog.key_ids:
            raise unauthorized("The API key is not known.", invalid=True)

    @property
    def longest_token_s(self) -> float:
        """How long a token may have left that is accepted here."""
        others = self._issuers.longest_s if self._issuers else 0.0
        return max(self._settings.max_token_lifetime, others)

    def _without_credential(self, scope: AsgiScope, tenant: str | None) -> Principal:
        client = scope.get("client")
        # The server binds loopback only in this mode; a host program that mounted us might not.
        if self._settings.dev and (client is None or is_loopback(client[0])):
            return _developer(tenant)
        if not self._public:
            raise unauthorized("Send an API key or a token: Authorization: Bearer …")
        if tenant not in (None, DEFAULT_TENANT):
            raise unauthorized(f"The tenant {tenant!r} is not public.")
        return Principal(kind="anonymous", tenant=DEFAULT_TENANT, view=DEFAULT_TENANT, subscribe=self._public)

    def _public_of(self, tenant: str) -> tuple[str, ...]:
        return self._public if tenant == DEFAULT_TENANT else ()

    def mint(self, principal: Principal, request: TokenRequest) -> Minted:
        """A token that grants no more than its minter has, and lasts no longer.

        Raises `Forbidden` for more than that, or a minter that is itself a token; `Invalid` for a wrong field.
        """
        if principal.kind not in ("key", "dev"):
            principal.require(Scope.ADMIN)
        self._check_request(request)
        tenant = request.tenant or principal.tenant
        principal.require_tenant(tenant)
        principal.require_subscribe(request.subscribe)
        principal.require_publish(request.publish)
        now = self._clock()
        lifetime = self._settings.token_lifetime if request.lifetime_s is None else request.lifetime_s
        expires = now + round(lifetime * 1_000_000)
        if principal.expires is not None:
            expires = min(expires, principal.expires)
        claims = Claims(
            exp=expires // 1_000_000,
            iat=now // 1_000_000,
            sub=request.sub,
            jti=new_id("tok", now, os.urandom(ID_BYTES)),
            key=principal.subject if principal.kind == "key" else None,
            tenant=tenant,
            subscribe=request.subscribe,
            publish=request.publish,
        )
        token = encode(claims, self._secret)
        if len(token) > MAX_TOKEN_LENGTH:
            raise Invalid.of("subscribe", f"so many patterns make a token of more than {MAX_TOKEN_LENGTH} characters")
        return Minted(id=claims.jti or "", token=token, expires=expires // 1_000_000 * 1_000_000)

    def _check_request(self, request: TokenRequest) -> None:
        check_all(
            lambda: check_patterns("subscribe", request.subscribe),
            lambda: check_patterns("publish", request.publish),
            lambda: None if request.tenant is None else check_tenant("tenant", request.tenant),
            lambda: _check_subject(request.sub),
            lambda: self._check_lifetime(request.lifetime_s),
        )
        if not request.subscribe and not request.publish:
            sentence = "name at least one pattern in subscribe or publish"
            raise Invalid("The token would grant nothing.", [FieldError("subscribe", sentence)])

    def _check_lifetime(self, lifetime_s: float | None) -> None:
        longest = self._settings.max_token_lifetime
        if lifetime_s is not None and not 1 <= lifetime_s <= longest:
            limit = f"max_token_lifetime, {format_duration(longest)}"
            raise Invalid.of("lifetime_s", f"must be between 1 and {longest:g} seconds ({limit})")


def new_key(
    *, tenant: str, scopes: Sequence[Scope], now: int, description: str = "", expires: int | None = None, id: str = ""
) -> tuple[str, ApiKey]:
    """A fresh key's text, which is nowhere kept, and the record of it."""
    text = PREFIX + os.urandom(RANDOM_BYTES).hex()
    return text, ApiKey(
        id=id or new_id("key", now, os.urandom(ID_BYTES)),
        tenant=tenant,
        hash=hash_key(text),
        hint=text[-4:],
        scopes=tuple(scopes),
        description=description,
        expires=expires,
        created=now,
        updated=now,
    )


async def first_admin_key(catalog: Catalog, *, now: int) -> str | None:
    """Make an administrator's key if there is none that still works, and return its text: the only time it is seen."""
    if any(Scope.ADMIN in key.scopes and (key.expires is None or key.expires > now) for key in catalog.keys.values()):
        return None
    text, key = new_key(tenant=DEFAULT_TENANT, scopes=(Scope.ADMIN,), now=now, description="made at the first start")
    await catalog.save(key)
    return text


@lru_cache(maxsize=256)
def _developer(tenant: str | None) -> Principal:
    """Whoever asks in `--dev`, without a credential."""
    return Principal(
        kind="dev",
        tenant=tenant or DEFAULT_TENANT,
        view=tenant,
        scopes=frozenset({Scope.ADMIN}),
        subscribe=EVERYTHING,
        publish=EVERYTHING,
        subject="dev",
    )


def unauthorized(detail: str, *, invalid: bool = False) -> Unauthorized:
    """A 401 with the challenge that RFC 6750 section 3 asks for."""
    challenge = CHALLENGE if invalid else 'Bearer realm="hookbrook"'
    return Unauthorized(detail, headers={"WWW-Authenticate": challenge})


def _check_subject(sub: str) -> None:
    if len(sub) > MAX_SUBJECT_LENGTH or not sub.isprintable():
        raise Invalid.of("sub", f"may have at most {MAX_SUBJECT_LENGTH} printable characters")


def _read_credential(scope: AsgiScope) -> tuple[str | None, str | None]:
    """What was shown, and the tenant asked for."""
    bearers: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            bearers.append(value)
        elif name == b"cookie" and COOKIE.encode() in value:
            cookies += _cookie_values(value)
    query: bytes = scope.get("query_string", b"")
    tokens, tenant = _query_values(query) if query else ([], None)
    if len(bearers) == 1 and not cookies and not tokens:
        return _bearer(bearers[0]), tenant
    if not bearers and not cookies and not tokens:
        return None, tenant
    explicit = {*(_bearer(value) for value in bearers), *tokens}
    by_cookie = {value.decode("latin-1") for value in cookies}
    shown = explicit | by_cookie
    if len(shown) > 1:
        raise BadRequest("Two different credentials were sent; send one.")
    for text in shown:
        _check_place(text, explicit=bool(bearers))
        if not explicit:
            _check_cookie(scope)
        return text, tenant
    return None, tenant


def _bearer(value: bytes) -> str:
    scheme, _, text = value.partition(b" ")
    # RFC 9110 section 11.1: the scheme is compared without case.
    if scheme.lower() != b"bearer" or not text.strip():
        raise unauthorized("The Authorization header is not `Bearer` and a key or token.", invalid=True)
    return text.strip().decode("latin-1")


def _cookie_values(header: bytes) -> list[bytes]:
    pairs = (part.strip().partition(b"=") for part in header.split(b";"))
    return [value.strip().strip(b'"') for name, _, value in pairs if name == COOKIE.encode()]


def _query_values(query: bytes) -> tuple[list[str], str | None]:
    """The tokens and the tenant in a query; most queries have neither and are not taken apart."""
    if b"token" not in query and b"tenant" not in query and b"%" not in query:
        return [], None
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as exc:
        raise BadRequest("The query cannot be read.") from exc
    tenants = {value for name, value in pairs if name == "tenant"}
    if len(tenants) > 1:
        raise BadRequest("Two different tenants were named; name one.")
    return [value for name, value in pairs if name == "token"], next(iter(tenants), None)


def _check_place(text: str, *, explicit: bool) -> None:
    if text.startswith(PREFIX) and not explicit:
        # A key lasts for years, and what stands in URLs and cookies ends up in logs and browsers.
        raise unauthorized(
            "An API key is sent as `Authorization: Bearer`; mint a token for anything else.", invalid=True
        )


def _check_cookie(scope: AsgiScope) -> None:
    """A cookie came without anybody's asking, so a write needs the browser's word that the page is our own."""
    if scope["method"] in SAFE_METHODS:
        return
    headers = {name: value.lower() for name, value in scope["headers"]}
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        if site == b"same-origin":
            return
    elif (origin := headers.get(b"origin")) is not None:
        authority = origin.partition(b"://")[2]
        if authority and authority == headers.get(b"host"):
            return
    raise Forbidden("A cookie authorises writing only from our own pages; send the token as a header.")
