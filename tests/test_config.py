"""Settings: where they come from, which wins, and that a bad one stops the start and names its key."""

import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from hookbrook.config import Settings, describe, load
from hookbrook.core.credential import Basic
from hookbrook.core.proxy import Proxy
from hookbrook.core.retention import Rule
from hookbrook.errors import ConfigError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def written(folder: Path, text: str, name: str = "hookbrook.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def refused(
    folder: Path,
    *,
    toml: str = "",
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        load(flags or {}, environ or {}, written(folder, toml))
    return refusal.value


def test_the_defaults_need_nothing(tmp_path: Path) -> None:
    settings = load({}, {}, tmp_path)
    assert (settings.host, settings.port, settings.dev) == ("127.0.0.1", 4665, False)
    assert settings.store_path == tmp_path / "hookbrook.db"
    assert settings.max_event_bytes == 1024 * 1024
    assert settings.max_webhook_bytes == 25 * 1024 * 1024
    assert settings.retention_age == 30 * 24 * 3600
    assert settings.retention_count is None
    assert settings.base_url == "http://127.0.0.1:4665"
    with pytest.raises(FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    written(tmp_path, "port = 1\nheartbeat_s = 1\ndrain_s = 1\n")
    environ = {"HOOKBROOK_PORT": "2", "HOOKBROOK_HEARTBEAT_S": "2s", "PATH": "/bin"}
    settings = load({"port": 3, "host": None}, environ, tmp_path)
    assert (settings.port, settings.heartbeat_s, settings.drain_s) == (3, 2.0, 1.0)
    assert settings.host == "127.0.0.1"


def test_every_setting_can_be_given_in_every_way(tmp_path: Path) -> None:
    texts = {
        "host": "::1", "port": "80", "store": "sqlite:////var/log.db", "dev": "no",
        "public_url": "https://hooks.example.com/", "allowed_hosts": "a.example,*.b.example",
        "allowed_origins": "https://app.example.com", "public_channels": "news,status.*",
        "allow_networks": "10.0.0.0/8, 127.0.0.1/32:8080", "deny_networks": "10.1.0.0/16",
        "retention_age": "1h30m", "retention_count": "5", "body_retention": "30m",
        "max_event_bytes": "64KiB", "max_webhook_bytes": "1.5MB",
        "max_batch_events": "10", "heartbeat_s": "250", "drain_s": "0", "token_lifetime": "5m",
        "max_token_lifetime": "10m", "disable_after": "2d", "admin_key_file": "key", "log_level": "DEBUG",
        "log_format": "json", "trusted_proxies": "10.0.0.1/32", "proxy_headers": "Forwarded", "max_connections": "5",
        "max_connections_per_address": "4", "max_connections_per_subject": "none", "max_stream_channels": "3",
        "connect_rate": "2", "connect_burst": "7", "publish_rate": "none", "publish_burst": "8",
        "outbound_proxy": "http://me:top%40secret@proxy:3128", "proxy_exceptions": "10.0.0.0/8",
    }  # fmt: skip
    assert set(texts) == {each.name for each in describe()}
    by_flag = load(dict(texts), {}, tmp_path)
    by_variable = load({}, {f"HOOKBROOK_{name.upper()}": text for name, text in texts.items()}, tmp_path)
    toml = "".join(f'{name} = "{text}"\n' for name, text in texts.items())
    assert by_flag == by_variable == load({}, {}, written(tmp_path, toml))
    assert by_flag.store_path == Path("/var/log.db")
    assert by_flag.proxy == Proxy(host="proxy", port=3128, authorization="Basic bWU6dG9wQHNlY3JldA==")
    assert "secret@" not in repr(by_flag)
    assert by_flag.public_url == by_flag.base_url == "https://hooks.example.com"
    assert by_flag.allowed_hosts == ("a.example", "*.b.example")
    assert by_flag.retention_age == 5400
    assert by_flag.max_webhook_bytes == 1_500_000
    assert by_flag.heartbeat_s == 250
    assert [rule.port for rule in by_flag.allow_rules] == [None, 8080]


def test_the_file_may_use_its_own_types(tmp_path: Path) -> None:
    written(tmp_path, 'dev = true\nport = 0\npublic_channels = ["news"]\nheartbeat_s = 2.5\nmax_event_bytes = 2048\n')
    settings = load({}, {}, tmp_path)
    assert (settings.dev, settings.port, settings.public_channels) == (True, 0, ("news",))
    assert (settings.heartbeat_s, settings.max_event_bytes) == (2.5, 2048)


def test_none_lifts_a_limit(tmp_path: Path) -> None:
    settings = load({"retention_age": "none", "public_url": "None"}, {}, tmp_path)
    assert settings.retention_age is None
    assert settings.public_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"), ("port", "65536"), ("port", "-1"), ("port", "9" * 5000), ("port", "1.5"), ("host", " "),
        ("dev", "perhaps"), ("store", "mysql://x"), ("store", "sqlite:///"), ("store", "sqlite:///:memory:"),
        ("store", "postgresql://user:password@db/x"), ("public_url", "hooks.example.com"),
        ("public_url", "https://user:pw@x"), ("public_url", "https://x/?a"), ("public_url", "https://x:99999"),
        ("allowed_hosts", "https://x"), ("allowed_origins", "app.example.com"), ("public_channels", "a b"),
        ("allow_networks", "10.0.0.0/99"), ("retention_age", "soon"), ("retention_age", "1s"),
        ("retention_count", "0"), ("max_event_bytes", "1"), ("max_event_bytes", "1.5"), ("max_webhook_bytes", "1PB"),
        ("max_batch_events", "0"), ("heartbeat_s", "0"), ("drain_s", "1y"), ("log_level", "loud"),
        ("log_format", "xml"), ("max_token_lifetime", "500d"),
    ],
)  # fmt: skip
def test_a_bad_value_stops_the_start_and_names_its_key(tmp_path: Path, name: str, value: str) -> None:
    variable = f"HOOKBROOK_{name.upper()}"
    assert refused(tmp_path, environ={variable: value}).key == variable
    assert refused(tmp_path, flags={name: value}).key == f"--{name.replace('_', '-')}"
    assert refused(tmp_path, toml=f'{name} = "{value}"').key == f"{name} in hookbrook.toml"


@pytest.mark.parametrize("toml", ["port = true", "dev = 1", "public_channels = [1]", "heartbeat_s = false", "host = 1"])
def test_a_value_of_another_type_is_refused(tmp_path: Path, toml: str) -> None:
    assert refused(tmp_path, toml=toml).key.endswith("in hookbrook.toml")


def test_postgresql_is_told_to_wait(tmp_path: Path) -> None:
    error = refused(tmp_path, environ={"HOOKBROOK_STORE": "postgresql://user:hunter2@db/x"})
    assert "SQLite only" in str(error)
    assert "hunter2" not in str(error)


def test_a_password_in_a_value_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in str(
        refused(tmp_path, environ={"HOOKBROOK_PUBLIC_URL": "https://user:hunter2@hooks.example.com"})
    )


def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    assert "HOOKBROOK_PORT?" in str(refused(tmp_path, environ={"HOOKBROOK_PROT": "1"}))
    assert "did you mean retention_age?" in str(refused(tmp_path, toml="retention_ages = 1"))
    assert "did you mean sources?" in str(refused(tmp_path, toml="[[source]]"))
    assert "--prot" in str(refused(tmp_path, flags={"prot": 1}))
    assert refused(tmp_path, environ={"HOOKBROOK_port": "1"}).key == "HOOKBROOK_port"


def test_variables_of_the_client_the_demo_and_kubernetes_are_let_alone(tmp_path: Path) -> None:
    environ = {
        "HOOKBROOK_URL": "http://x", "HOOKBROOK_KEY": "hbk_x", "HOOKBROOK_DEMO_PORT": "x", "HOOKBROOK_CHROMIUM": "x",
        "HOOKBROOK_PORT": "tcp://10.0.0.1:4665", "HOOKBROOK_PORT_4665_TCP_ADDR": "10.0.0.1",
        "HOOKBROOK_SERVICE_HOST": "10.0.0.1", "HOOKBROOK_SERVICE_PORT_HTTP": "4665",
    }  # fmt: skip
    assert load({}, environ, tmp_path) == load({}, {}, tmp_path)


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert load({}, {"HOOKBROOK_PORT": ""}, tmp_path).port == 4665


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.com", "localhost.example.com"])
def test_the_open_mode_needs_a_loopback_host(tmp_path: Path, host: str) -> None:
    assert refused(tmp_path, flags={"dev": True, "host": host}).key == "dev"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_hosts_may_be_open(tmp_path: Path, host: str) -> None:
    assert load({"dev": True, "host": host}, {}, tmp_path).dev


@pytest.mark.parametrize("name", ["public_url", "allowed_hosts"])
def test_open_to_everybody_and_reachable_by_name_do_not_go_together(tmp_path: Path, name: str) -> None:
    value = {"public_url": "https://hooks.example.com", "allowed_hosts": "hooks.example.com"}[name]
    assert refused(tmp_path, flags={"dev": True, name: value}).key == "dev"
    assert load({"dev": False, name: value}, {}, tmp_path).dev is False


def test_the_lifetimes_of_tokens_must_fit_each_other(tmp_path: Path) -> None:
    error = refused(tmp_path, environ={"HOOKBROOK_TOKEN_LIFETIME": "2d"})
    assert error.key == "token_lifetime"


def test_the_file_may_be_named_and_must_then_exist(tmp_path: Path) -> None:
    written(tmp_path, "port = 7", "other.toml")
    assert load({"config": "other.toml"}, {}, tmp_path).port == 7
    assert load({}, {"HOOKBROOK_CONFIG": str(tmp_path / "other.toml")}, tmp_path).port == 7
    with pytest.raises(ConfigError, match="there is no file"):
        load({"config": "missing.toml"}, {}, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "not TOML" in str(refused(tmp_path, toml="port = = 1"))
    (tmp_path / "hookbrook.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        load({}, {}, tmp_path)


def test_every_setting_is_described_with_a_default_that_reads_back(tmp_path: Path) -> None:
    described = describe()
    assert len(described) > 20
    for each in described:
        assert each.about.endswith(".")
        assert each.flag == "--" + each.name.replace("_", "-")
    defaults = {each.variable: each.default for each in described}
    assert load({}, defaults, tmp_path) == load({}, {}, tmp_path)


DECLARED = f"""
[[sources]]
name = "billing"
provider = "stripe"
secrets = ["${{STRIPE_SECRET}}", "plain"]
channel = "billing.{{body.type}}"

[[sources]]
name = "repo"
provider = "github"
enforce = false

[[endpoints]]
name = "crm"
url = "https://crm.example.com/hooks"
types = ["invoice.*"]
secret = "{SECRET}"
retry = [5, 300]
headers = {{ X-Team = "sales" }}

[[endpoints]]
name = "open"
url = "https://open.example.com"
tenant = "acme"

[providers.mine]
extends = "github"
"""


def test_sources_and_endpoints_are_declared_in_the_file(tmp_path: Path) -> None:
    environ = {"STRIPE_SECRET": "from the environment"}
    settings = load({}, environ, written(tmp_path, DECLARED))
    billing, repo = settings.sources
    assert (billing.name, billing.provider, billing.channel) == ("billing", "stripe", "billing.{body.type}")
    assert billing.secrets == ("from the environment", "plain")
    assert (repo.enforce, repo.secrets, repo.declared) == (False, (), True)
    crm, open_ = settings.endpoints
    assert (crm.url, crm.types, crm.secrets) == ("https://crm.example.com/hooks", ("invoice.*",), (SECRET,))
    assert (crm.retry, crm.headers, crm.description) == ((5.0, 300.0), {"X-Team": "sales"}, "crm")
    assert (open_.tenant, open_.secrets, open_.retry, open_.declared) == ("acme", (), None, True)
    assert settings.providers == {"mine": {"extends": "github"}}
    assert SECRET not in repr(settings)
    assert "from the environment" not in repr(settings)


def ids_of(settings: Settings) -> list[str]:
    return [source.id for source in settings.sources] + [endpoint.id for endpoint in settings.endpoints]


def test_ids_of_declared_things_outlast_a_restart(tmp_path: Path) -> None:
    first, second = (load({}, {"STRIPE_SECRET": "x"}, written(tmp_path, DECLARED)) for _ in range(2))
    ids = ids_of(first)
    assert ids == ids_of(second)
    assert len(set(ids)) == 4
    assert all(re.fullmatch(r"(src|ep)_[0-9a-z]{26}", each) for each in ids)


SOURCE = '[[sources]]\nname = "a"\nprovider = "github"\n'
ENDPOINT = '[[endpoints]]\nname = "a"\nurl = "https://example.com"\n'


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        ("sources = 1", "sources"),
        ("[sources]\nname = 1", "sources"),
        ('[[sources]]\nname = "a"', "sources[0].provider"),
        (SOURCE + "secret = 'x'", "sources[0].secret"),
        (SOURCE + "secrets = 'x'", "sources[0].secrets"),
        (SOURCE + 'secrets = ["${MISSING}"]', "sources[0].secrets"),
        (SOURCE + "enforce = 'no'", "sources[0].enforce"),
        (SOURCE + "tenant = '-'", "sources[0].tenant"),
        ('[[sources]]\nname = "A b"\nprovider = "github"', "sources[0].name"),
        ('[[sources]]\nname = "hookbrook.x"\nprovider = "github"', "sources[0].name"),
        (SOURCE + SOURCE, "sources[1].name"),
        ('[[endpoints]]\nurl = "https://example.com"', "endpoints[0].name"),
        (ENDPOINT + "secret = 'whsec_short'", "endpoints[0].secret"),
        (ENDPOINT + f"secret = '{SECRET}'\nsecrets = []", "endpoints[0].secret"),
        (ENDPOINT + "retry = 'often'", "endpoints[0].retry"),
        (ENDPOINT + "timeout_s = 1000", "endpoints[0].timeout_s"),
        (ENDPOINT + "concurrency = 1.5", "endpoints[0].concurrency"),
        (ENDPOINT + "types = ['a b']", "endpoints[0].types"),
        (ENDPOINT + "headers = { Host = 'x' }", "endpoints[0].headers.Host"),
        ('[[endpoints]]\nname = "a"\nurl = "http://127.0.0.1"', "endpoints[0].url"),
        ('[[endpoints]]\nname = "a"\nurl = 1', "endpoints[0].url"),
        ('[[endpoints]]\nname = 1\nurl = "https://example.com"', "endpoints[0].name"),
        (ENDPOINT + ENDPOINT, "endpoints[1].name"),
        ("providers = 1", "providers"),
        ("retention = '1h'", "retention"),
        ("[[retention]]\ncount = 1", "retention[0].channels"),
        ("[[retention]]\nchannels = 'a'", "retention[0]"),
        ("[[retention]]\nchannels = 'a b'\ncount = 1", "retention[0].channels"),
        ("[[retention]]\nchannels = 1\ncount = 1", "retention[0].channels"),
        ("[[retention]]\nchannels = 'a'\ncount = 0", "retention[0].count"),
        ("[[retention]]\nchannels = 'a'\ncount = true", "retention[0].count"),
        ("[[retention]]\nchannels = 'a'\nage = 'soon'", "retention[0].age"),
        ("[[retention]]\nchannels = 'a'\nage = '10ms'", "retention[0].age"),
        ("[[retention]]\nchannel = 'a'\ncount = 1", "retention[0].channel"),
        ("[[retention]]\nchannels = 'a'\ncount = 1\n" * 51, "retention"),
    ],
)
def test_a_wrong_declaration_is_named_by_its_place(tmp_path: Path, toml: str, key: str) -> None:
    error = refused(tmp_path, toml=toml)
    assert error.key == key
    assert "whsec_" not in str(error).replace("starts with whsec_", "").replace("follows whsec_", "")


def test_what_a_declared_endpoint_proves_itself_with_may_be_in_the_environment(tmp_path: Path) -> None:
    toml = """
[[endpoints]]
name = "a"
url = "https://example.com/x"
auth = { type = "basic", username = "me", password = "${CRM_PASSWORD}" }
secret_headers = { X-Key = "${CRM_KEY}", X-Plain = "plain" }
filter = "data.total > `5`"
format = "cloudevent"
ordering = "channel"
max_body_bytes = 1000
"""
    file = written(tmp_path, toml)
    [endpoint] = load({}, {"CRM_PASSWORD": "pw", "CRM_KEY": "k"}, file).endpoints
    assert endpoint.auth == Basic(username="me", password="pw")
    assert endpoint.secret_headers == {"X-Key": "k", "X-Plain": "plain"}
    assert (endpoint.filter, endpoint.format, endpoint.ordering) == ("data.total > `5`", "cloudevent", "channel")
    for missing in ("CRM_PASSWORD", "CRM_KEY"):
        with pytest.raises(ConfigError, match=missing):
            load({}, {name: "x" for name in ("CRM_PASSWORD", "CRM_KEY") if name != missing}, file)
    with pytest.raises(ConfigError, match=r"endpoints\[0\]\.filter"):
        load({}, {}, written(tmp_path, '[[endpoints]]\nname = "a"\nurl = "https://example.com"\nfilter = "data."\n'))


def test_a_declared_endpoint_may_be_on_a_network_that_is_allowed(tmp_path: Path) -> None:
    toml = 'allow_networks = ["127.0.0.0/8"]\n[[endpoints]]\nname = "a"\nurl = "http://127.0.0.1:9000/x"\n'
    [endpoint] = load({}, {}, written(tmp_path, toml)).endpoints
    assert endpoint.url == "http://127.0.0.1:9000/x"


def test_the_fields_that_are_no_settings_are_only_those_that_the_file_declares() -> None:
    others = {each.name for each in fields(Settings)} - {each.name for each in describe()}
    assert others == {"folder", "sources", "endpoints", "providers", "issuers", "retention", "types"}


def test_what_is_kept_of_single_channels_is_declared_in_order(tmp_path: Path) -> None:
    toml = '[[retention]]\nchannels = "ticker.*"\nage = "1h"\ncount = 100\n[[retention]]\nchannels = "*"\ncount = 5\n'
    assert load({}, {}, written(tmp_path, toml)).retention == (
        Rule(channels="ticker.*", age_s=3600.0, count=100),
        Rule(channels="*", count=5),
    )
    assert load({}, {}, written(tmp_path, "")).retention == ()
