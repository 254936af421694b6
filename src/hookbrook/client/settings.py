"""Where the server is, how we prove who we are, and how patient we are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hookbrook.errors import ConfigError

DEFAULT_URL = "http://127.0.0.1:4665"

#: For one try, in seconds. The server answers after a commit, which takes milliseconds; a proxy's limit is 60.
DEFAULT_TIMEOUT_S = 30.0
#: Tries after the first. With the pauses below that is at least 25 s, in which a server has restarted.
DEFAULT_RETRIES = 6
#: The first pause before another try; each further one is twice as long.
DEFAULT_BACKOFF_S = 0.5
#: The longest pause that we choose by ourselves.
MAX_BACKOFF_S = 10.0
#: Three of the server's heartbeats of 15 s: a stream that is silent for longer is dead, whatever the socket says.
DEFAULT_IDLE_S = 45.0

#: A number in [0, 1), as `random.random` gives.
Jitter = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    #: Without a slash at the end.
    url: str
    key: str | None = field(repr=False)
    timeout_s: float = DEFAULT_TIMEOUT_S
    retries: int = DEFAULT_RETRIES
    backoff_s: float = DEFAULT_BACKOFF_S
    idle_s: float = DEFAULT_IDLE_S


def read_settings(
    url: str | None,
    key: str | None,
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    retries: int,
    backoff_s: float,
    idle_s: float,
) -> Settings:
    """Arguments first, then `HOOKBROOK_URL` and `HOOKBROOK_KEY`. Raises ConfigError, without the key's value."""
    url = (url or environment.get("HOOKBROOK_URL") or DEFAULT_URL).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError("HOOKBROOK_URL", f"must be a URL such as {DEFAULT_URL}, not {url!r}")
    key = key or environment.get("HOOKBROOK_KEY") or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigError("HOOKBROOK_KEY", "may only contain visible ASCII characters")
    return Settings(url=url, key=key, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s, idle_s=idle_s)


def pause_s(base_s: float, failures: int, jitter: Jitter) -> float:
    """Seconds before the next try after so many failures in a row: doubling up to a bound, then up to half as much
    again at random, so that clients that lost the same server do not come back in step. Never less than `base_s`."""
    # 2.0 ** 1024 overflows, and a stream tries for ever.
    doubled = base_s * 2.0 ** min(max(failures - 1, 0), 32)
    return min(doubled, max(base_s, MAX_BACKOFF_S)) * (1 + jitter() / 2)
