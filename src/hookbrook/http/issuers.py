"""The keys of other issuers: read from a file, fetched from a URL, or a secret; and who signed a token.

Authentication is synchronous, since nearly always the key is at hand. When it is not, `KeysMissing` is raised; whoever
can wait, waits for the keys and asks again: `AwaitKeys` for the hot doors, `Auth.identify` for the management API.

A fetched set is used for `FRESH_S` and then fetched anew, in the background; if that fails it stays in use for
`STALE_S`, since an identity provider's bad hour must not be ours. A token with an unknown key id fetches at once,
because that is how new keys announce themselves; but anybody can write such a token, so not more often than every
`REFETCH_S`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from hookbrook.core.fetch import Fetch, FetchError, Request
from hookbrook.core.issuer import Issuer
from hookbrook.core.keyset import MAX_DOCUMENT_BYTES, KeySetError, VerifyKey, from_document, from_secret
from hookbrook.core.token import Claims, TokenError, Unverified, signed_payload
from hookbrook.errors import ConfigError, Unauthorized
from hookbrook.http.problems import App, Receive, Scope, Send

log = logging.getLogger("hookbrook.http")

#: Seconds after which a fetched set is fetched anew; how fast a withdrawn key stops working.
FRESH_S: Final = 300.0
#: Seconds for which a set that cannot be fetched anew is still believed.
STALE_S: Final = 24 * 3600.0
#: The least seconds between two fetches of one set.
REFETCH_S: Final = 10.0
#: Seconds that a fetch may take; whoever waits for it waits so long at most.
FETCH_S: Final = 5.0
#: Seconds between two looks at whether a file has changed.
LOOK_S: Final = 1.0
#: RFC 6750 section 3.
CHALLENGE: Final = 'Bearer realm="hookbrook", error="invalid_token"'


class KeysMissing(Unauthorized):
    """The key is not at hand but may be fetched: await `wait` and try again."""

    def __init__(self, fetch: Callable[[], "asyncio.Task[None]"]) -> None:
        super().__init__("The token's key is not known.", headers={"WWW-Authenticate": CHALLENGE})
        self._fetch = fetch

    async def wait(self) -> None:
        """Until the keys were fetched, or could not be."""
        # Others wait for the same fetch, so that one who leaves must not end it.
        await asyncio.shield(self._fetch())


class AwaitKeys:
    """ASGI around doors that authenticate before they do anything else: when a key is missing, wait and begin again."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except KeysMissing as missing:
            await missing.wait()
        else:
            return
        await self._app(scope, receive, send)


class KeySource(Protocol):
    """Where the keys of one issuer come from."""

    def keys(self, kid: str | None) -> Sequence[VerifyKey]:
        """The keys that may have signed a token with this key id. May raise `KeysMissing`."""


class FixedKeys:
    def __init__(self, keys: Sequence[VerifyKey]) -> None:
        self._keys = keys

    def keys(self, kid: str | None) -> Sequence[VerifyKey]:
        return chosen(self._keys, kid)


class FileKeys:
    """A file that is read again when it has changed. What cannot be used is told in the log, and the last good keys
    stay in use.

    Raises `KeySetError` or `OSError` at first.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._state = _state_of(path)
        self._keys = self._read()
        self._looked = now()

    def keys(self, kid: str | None) -> Sequence[VerifyKey]:
        now = self._now()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
        return chosen(self._keys, kid)

    def _look(self) -> None:
        try:
            state = _state_of(self._path)
            if state != self._state:
                self._keys = self._read()
                # Noted last, so that a file which is just being written is read once more.
                self._state = state
                log.info("the keys in %s were read again", self._path)
        except (OSError, KeySetError) as exc:
            log.warning("%s %s; the keys from before stay in use", self._path, exc)

    def _read(self) -> Sequence[VerifyKey]:
        with self._path.open("rb") as file:
            return from_document(file.read(MAX_DOCUMENT_BYTES + 1), secrets=True)


def _state_of(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class UrlKeys:
    """See the module."""

    def __init__(self, url: str, fetch: Fetch, now: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._now = now
        self._keys: Sequence[VerifyKey] = ()
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def keys(self, kid: str | None) -> Sequence[VerifyKey]:
        age = self._now() - self._fetched
        if age >= STALE_S:
            self._keys = ()
        found = chosen(self._keys, kid)
        if not found and (self._task is not None or self._may_fetch()):
            raise KeysMissing(self.fetch)
        if age >= FRESH_S and self._may_fetch():
            self.fetch()
        return found

    def _may_fetch(self) -> bool:
        return self._task is None and self._now() - self._tried >= REFETCH_S

    def fetch(self) -> "asyncio.Task[None]":
        """The fetch under way, or a new one; it raises nothing."""
        if self._task is None:
            self._tried = self._now()
            self._task = asyncio.get_running_loop().create_task(self._refresh(), name="hookbrook-keys")
        return self._task

    async def _refresh(self) -> None:
        try:
            self._keys = await self._load()
            self._fetched = self._now()
        except (FetchError, KeySetError) as exc:
            log.warning("the key set %s: %s", self._url.partition("?")[0], exc)
        finally:
            self._task = None

    async def _load(self) -> Sequence[VerifyKey]:
        answer = await self._fetch.send(
            Request(
                method="GET",
                url=self._url,
                headers={"accept": "application/jwk-set+json, application/json"},
                connect_timeout_s=FETCH_S,
                total_timeout_s=FETCH_S,
                response_limit=MAX_DOCUMENT_BYTES,
            )
        )
        if answer.status != 200:
            raise KeySetError(f"was answered with {answer.status}")
        if answer.truncated:
            raise KeySetError(f"has more than {MAX_DOCUMENT_BYTES} bytes")
        return from_document(answer.body, secrets=False)


def chosen(keys: Sequence[VerifyKey], kid: str | None) -> Sequence[VerifyKey]:
    """Those that a token with this key id may be signed with. A key without an id may have signed any."""
    return keys if kid is None else [key for key in keys if key.kid in (kid, None)]


class Issuers:
    """All issuers by what `iss` says.

    Raises `ConfigError` for a keys file that cannot be used.
    """

    def __init__(self, issuers: Iterable[Issuer], *, fetch: Fetch, now: Callable[[], float]) -> None:
        self._by_name = {issuer.issuer: (issuer, _source(n, issuer, fetch, now)) for n, issuer in enumerate(issuers)}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    @property
    def longest_s(self) -> float:
        """How long the token that lasts longest may have left."""
        return max((issuer.max_lifetime_s for issuer, _ in self._by_name.values()), default=0.0)

    def claims(self, text: str, said: Unverified, *, now_s: float) -> Claims:
        """The claims of another issuer's token; raises `TokenError`, or `KeysMissing`."""
        issuer, source = self._by_name.get(said.iss or "", (None, None))
        if issuer is None or source is None:
            raise TokenError("The token's issuer is not known.")
        keys = source.keys(said.kid)
        if not keys:
            raise TokenError("The token's key is not known.")
        return issuer.claims(_payload(text, keys), now_s=now_s)


def _payload(text: str, keys: Sequence[VerifyKey]) -> dict[str, object]:
    """What was signed, with the first key that fits; the algorithm is the key's."""
    for key in keys[:-1]:
        try:
            return dict(signed_payload(text, key.key, key.algorithm))
        except TokenError:
            continue
    return dict(signed_payload(text, keys[-1].key, keys[-1].algorithm))


def _source(number: int, issuer: Issuer, fetch: Fetch, now: Callable[[], float]) -> KeySource:
    if issuer.keys_url:
        return UrlKeys(issuer.keys_url, fetch, now)
    if issuer.keys_file is None:
        return FixedKeys((from_secret(issuer.secret),))
    try:
        return FileKeys(issuer.keys_file, now)
    except OSError as exc:
        raise ConfigError(f"issuers[{number}].keys_file", f"cannot be read: {exc.strerror}") from exc
    except KeySetError as exc:
        raise ConfigError(f"issuers[{number}].keys_file", str(exc)) from exc
