"""Settings: flags win over the environment, the environment over hookbrook.toml, and that over the defaults.

`Settings` is the one table: each field carries how its text is read and what it is for, so that flags, environment
variables, keys of the file and the documentation cannot differ. A value that cannot be used, and a name that is not
known, stops the start and is named; its value is never repeated, since it may be a secret.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from hookbrook.core import setting
from hookbrook.core.addresses import Rule, parse_rules
from hookbrook.core.declared import nearest, read_endpoints, read_sources, read_types
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.eventtype import EventType
from hookbrook.core.proxy import Proxy, parse_proxy
from hookbrook.core.retention import Rule as RetentionRule
from hookbrook.core.retention import read_rules
from hookbrook.core.source import Source
from hookbrook.core.units import format_duration, format_size
from hookbrook.errors import ConfigError

if TYPE_CHECKING:
    from hookbrook.core.issuer import Issuer

PREFIX = "HOOKBROOK_"
FILE_NAME = "hookbrook.toml"
#: Environment variables of the same prefix that other programs of ours read: the client, the demo, the tests.
_OTHERS = re.compile(r"HOOKBROOK_(?:CONFIG|URL|KEY|CHROMIUM|FIREFOX|NGINX|DEMO_[A-Z0-9_]*)\Z")
#: What Kubernetes sets in every pod beside a service named hookbrook; HOOKBROOK_PORT is then `tcp://10.0.0.1:4665`.
_KUBERNETES = re.compile(r"HOOKBROOK_(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|PORT_[0-9]+_[A-Z_]+)\Z")
_KUBERNETES_PORT = re.compile(r"(?:tcp|udp)://")


def _setting(default: Any, read: setting.Reader, about: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"read": read, "about": about}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set. Durations are seconds, sizes bytes."""

    host: str = _setting("127.0.0.1", setting.text, "Address to listen on.")
    port: int = _setting(4665, setting.number(0, 65535), "Port to listen on; 0 takes any free one.")
    store: str = _setting(
        "sqlite:///hookbrook.db",
        setting.store,
        "Where the log is kept: `sqlite:///PATH`, relative to the working folder; a fourth slash makes it absolute.",
    )
    dev: bool = _setting(
        False, setting.switch, "Open to everybody on this machine without a key; only on a loopback host."
    )
    public_url: str | None = _setting(
        None,
        setting.or_none(setting.public_url),
        "The address under which others reach this server, as providers are told it.",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        setting.host_names,
        "Host names that requests may be addressed to, besides loopback and that of `public_url`.",
    )
    allowed_origins: tuple[str, ...] = _setting(
        (), setting.origins, "Origins of web pages that may read streams and publish from a browser."
    )
    public_channels: tuple[str, ...] = _setting(
        (), setting.patterns, "Channel patterns of the default tenant that may be read without a credential."
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (), setting.networks, "Networks of proxies whose forwarding headers are believed, such as `127.0.0.1/32`."
    )
    proxy_headers: str = _setting(
        "x-forwarded",
        setting.one_of("x-forwarded", "forwarded"),
        "What they write: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239). The other is not read.",
    )
    max_connections: int | None = _setting(
        100_000, setting.or_none(setting.number(1, 10**7)), "Streams open at once; `none` sets no limit."
    )
    max_connections_per_address: int | None = _setting(
        None,
        setting.or_none(setting.number(1, 10**7)),
        "The same of one address; behind a proxy set `trusted_proxies` as well.",
    )
    max_connections_per_subject: int | None = _setting(
        None, setting.or_none(setting.number(1, 10**7)), "The same of one key, or of one `sub` of tokens."
    )
    max_stream_channels: int = _setting(100, setting.number(1, 250), "Channels and patterns of one stream.")
    connect_rate: int | None = _setting(
        None,
        setting.or_none(setting.number(1, 10**6)),
        "Streams that one address may open a second; `none` sets no limit.",
    )
    connect_burst: int = _setting(100, setting.number(1, 10**7), "Streams that it may open at once after a pause.")
    publish_rate: int | None = _setting(
        None,
        setting.or_none(setting.number(1, 10**7)),
        "Events that one key or token may publish a second; `none` sets no limit.",
    )
    publish_burst: int = _setting(1000, setting.number(1, 10**7), "Events that it may publish at once after a pause.")
    allow_networks: tuple[str, ...] = _setting(
        (),
        setting.networks,
        "Private networks that webhooks may be sent to, such as `10.0.0.0/8` or `127.0.0.1/32:8080`.",
    )
    deny_networks: tuple[str, ...] = _setting(
        (), setting.networks, "Networks that webhooks are never sent to; wins over `allow_networks`."
    )
    outbound_proxy: str | None = _setting(
        None,
        setting.or_none(setting.proxy),
        "Forward proxy that webhooks leave through, `http://[USER:PASSWORD@]HOST:PORT`; see"
        " [webhooks out](webhooks-out.md#leave-through-a-proxy).",
        secret=True,
    )
    proxy_exceptions: tuple[str, ...] = _setting(
        (), setting.networks, "Networks that are contacted directly although there is an `outbound_proxy`."
    )
    retention_age: float | None = _setting(
        30 * 86400.0,
        setting.or_none(setting.duration(60, 100 * 365 * 86400.0)),
        "How long events are kept; `none` keeps them all.",
    )
    retention_count: int | None = _setting(
        None, setting.or_none(setting.number(1, 10**11)), "How many events are kept at most; `none` sets no limit."
    )
    body_retention: float | None = _setting(
        None,
        setting.or_none(setting.duration(60, 100 * 365 * 86400.0)),
        "How long the data of events is kept; after that an event only shows that it happened. `none` sets no limit.",
    )
    max_event_bytes: int = _setting(2**20, setting.size(1024, 64 * 2**20), "Largest data of one published event.")
    max_webhook_bytes: int = _setting(
        25 * 2**20,
        setting.size(1024, 256 * 2**20),
        "Largest body of a received webhook; GitHub's maximum is the default.",
    )
    max_batch_events: int = _setting(1000, setting.number(1, 10_000), "Most events in one array.")
    disable_after: float | None = _setting(
        5 * 86400.0,
        setting.or_none(setting.duration(60, 365 * 86400.0)),
        "An endpoint to which nothing has arrived for this long is disabled; `none` never disables one for that.",
    )
    heartbeat_s: float = _setting(15.0, setting.duration(1, 3600), "A silent stream gets a sign of life this often.")
    drain_s: float = _setting(
        10.0, setting.duration(0, 600), "How long open streams and attempts may take at shutdown."
    )
    token_lifetime: float = _setting(
        3600.0, setting.duration(1, 30 * 86400.0), "How long a minted token is valid if its request does not say."
    )
    max_token_lifetime: float = _setting(
        86400.0, setting.duration(1, 365 * 86400.0), "The longest a minted token may be valid."
    )
    admin_key_file: str = _setting(
        "hookbrook-admin.key",
        setting.text,
        "File of mode 0600 that gets the first admin key if there is no terminal to show it on.",
    )
    log_level: str = _setting(
        "info", setting.one_of("debug", "info", "warning", "error"), "The least severe lines to log."
    )
    log_format: str = _setting("text", setting.one_of("text", "json"), "Log lines for people or for programs.")

    #: The working folder, which relative paths start from.
    folder: Path = Path()
    #: Declared in hookbrook.toml. Not in the repr, because they hold secrets.
    sources: tuple[Source, ...] = field(default=(), repr=False)
    endpoints: tuple[Endpoint, ...] = field(default=(), repr=False)
    types: tuple[EventType, ...] = field(default=(), repr=False)
    issuers: "tuple[Issuer, ...]" = field(default=(), repr=False)
    #: Declared there too: what is kept of single channels.
    retention: tuple[RetentionRule, ...] = ()
    #: `[providers.NAME]` as it stands in the file; `inbound.providers.load` reads it.
    providers: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def store_path(self) -> Path:
        """The file of the SQLite store."""
        return self.folder / unquote(self.store.removeprefix("sqlite:///"))

    @property
    def admin_key_path(self) -> Path:
        return self.folder / self.admin_key_file

    @property
    def allow_rules(self) -> tuple[Rule, ...]:
        return parse_rules(self.allow_networks, "allow_networks")

    @property
    def deny_rules(self) -> tuple[Rule, ...]:
        return parse_rules(self.deny_networks, "deny_networks")

    @property
    def proxy_rules(self) -> tuple[Rule, ...]:
        return parse_rules(self.trusted_proxies, "trusted_proxies")

    @property
    def proxy(self) -> Proxy | None:
        return None if self.outbound_proxy is None else parse_proxy(self.outbound_proxy)

    @property
    def direct_rules(self) -> tuple[Rule, ...]:
        return parse_rules(self.proxy_exceptions, "proxy_exceptions")

    @property
    def base_url(self) -> str:
        """What others call this server: `public_url`, or else the address it listens on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"


#: Keys of the file that are no settings.
_DECLARATIONS: Final = ("sources", "endpoints", "providers", "issuers", "retention", "types")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One setting, as the documentation shows it."""

    name: str
    flag: str
    variable: str
    default: str
    about: str


def describe() -> list[Described]:
    """All settings in the order in which people should read them."""
    return [
        Described(
            name=each.name,
            flag="--" + each.name.replace("_", "-"),
            variable=PREFIX + each.name.upper(),
            default=_shown(each.name, each.default),
            about=each.metadata["about"],
        )
        for each in fields(Settings)
        if "read" in each.metadata
    ]


def load(flags: Mapping[str, object], environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings, or `ConfigError` naming the first one that is wrong.

    Args:
        flags: by the settings' names; None means not given. `config` names the file.
        environ: the environment.
        folder: the working folder; hookbrook.toml is looked for here, and relative paths start here.
    """
    readers: dict[str, setting.Reader] = {
        each.name: each.metadata["read"] for each in fields(Settings) if each.metadata
    }
    file_name, document = _read_file(flags, environ, folder)
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key in readers:
            values[key] = _read(f"{key} in {file_name}", readers[key], value)
        elif key not in _DECLARATIONS:
            raise ConfigError(f"{key} in {file_name}", f"is unknown{nearest(key, [*readers, *_DECLARATIONS])}")
    for variable, name in _variables(environ, readers).items():
        values[name] = _read(variable, readers[name], environ[variable])
    for name, value in flags.items():
        if value is not None and name != "config":
            values[name] = _read(f"--{name.replace('_', '-')}", _known(name, readers), value)
    return _check_together(_with_declared(Settings(folder=folder, **values), document, environ))


def _read_file(flags: Mapping[str, object], environ: Mapping[str, str], folder: Path) -> tuple[str, Mapping[str, Any]]:
    named = flags.get("config") or environ.get(PREFIX + "CONFIG")
    path = folder / str(named or FILE_NAME)
    try:
        return path.name, tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if named:
            raise ConfigError("config", f"there is no file {path}") from None
        return path.name, {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError("config", f"{path} cannot be read: {exc}") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError("config", f"{path} is not TOML: {exc}") from exc


def _variables(environ: Mapping[str, str], readers: Mapping[str, setting.Reader]) -> dict[str, str]:
    """Variable -> setting, for those that are set to something."""
    found = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or _OTHERS.match(variable) or _KUBERNETES.match(variable):
            continue
        if variable == PREFIX + "PORT" and _KUBERNETES_PORT.match(value):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in readers or variable != variable.upper():
            known = [PREFIX + each.upper() for each in readers]
            raise ConfigError(variable, f"is not a setting{nearest(variable.upper(), known)}")
        if value:
            found[variable] = name
    return found


def _known(name: str, readers: Mapping[str, setting.Reader]) -> setting.Reader:
    if name not in readers:
        raise ConfigError(f"--{name.replace('_', '-')}", f"is not a setting{nearest(name, list(readers))}")
    return readers[name]


def _read(key: str, read: setting.Reader, value: object) -> Any:
    try:
        return read(value)
    except ValueError as exc:
        raise ConfigError(key, str(exc)) from None


def _with_declared(settings: Settings, document: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    providers = document.get("providers", {})
    if not isinstance(providers, Mapping):
        raise ConfigError("providers", "is a table of tables, each begun with [providers.NAME]")
    return replace(
        settings,
        sources=read_sources(document.get("sources", []), environ),
        endpoints=read_endpoints(
            document.get("endpoints", []), environ, allowed=settings.allow_rules, denied=settings.deny_rules
        ),
        providers=providers,
        types=read_types(document.get("types", [])),
        retention=read_rules(document.get("retention", [])),
        issuers=_read_issuers(document.get("issuers", []), environ, settings),
    )


def _read_issuers(tables: object, environ: Mapping[str, str], settings: Settings) -> "tuple[Issuer, ...]":
    if tables == []:
        return ()
    # Imported late: this module gives `serve` its flags, so every verb loads it, and none but `serve` reads tokens.
    from hookbrook.core.issuer import read_issuers

    return read_issuers(tables, environ, settings.folder, allowed=settings.allow_rules)


def _check_together(settings: Settings) -> Settings:
    """What no single value shows."""
    if settings.dev and not is_loopback(settings.host):
        raise ConfigError("dev", "is open to whoever can connect, so it needs a loopback host such as 127.0.0.1")
    if settings.dev and (settings.public_url or settings.allowed_hosts):
        # A tunnel or proxy connects from this very machine; only the name that it was called by gives others away.
        raise ConfigError(
            "dev", "is open to whoever can connect, so it goes with neither public_url nor allowed_hosts; leave it out"
        )
    if settings.token_lifetime > settings.max_token_lifetime:
        raise ConfigError("token_lifetime", "must not be longer than max_token_lifetime")
    return settings


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than `localhost` is not trusted to be one."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if name.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if isinstance(value, float):
        return format_duration(value)
    return ", ".join(value) if isinstance(value, tuple) else str(value)
