from hypothesis import given
from hypothesis import strategies as st

from hookbrook.core.channel import matches_any
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.routing import Routes

_names = st.sampled_from(["a", "a.b", "a.b.c", "b", "hookbrook.x"])
_patterns = st.sampled_from(["*", "a", "a*", "a.*", "a.b*", "b", "hookbrook.*", "h*"])
_tenants = st.sampled_from(["one", "two"])


def endpoint(number: int, **fields: object) -> Endpoint:
    values: dict[str, object] = {"id": f"ep_{number}", "url": "http://x", "secrets": (), "created": 0, "updated": 0}
    return Endpoint(**{**values, **fields})  # type: ignore[arg-type]


_wishes = st.lists(
    st.tuples(_tenants, st.lists(_patterns, max_size=3), st.lists(_patterns, max_size=3), st.booleans()), max_size=6
)


@given(_wishes, _tenants, st.lists(_names, min_size=1, max_size=3), _names)
def test_an_event_is_owed_to_those_of_its_tenant_that_asked_for_a_channel_and_the_type(
    wishes: list[tuple[str, list[str], list[str], bool]], tenant: str, channels: list[str], type_: str
) -> None:
    endpoints = [
        endpoint(number, tenant=whose, channels=tuple(where), types=tuple(what), enabled=enabled)
        for number, (whose, where, what, enabled) in enumerate(wishes)
    ]
    expected = [
        each
        for each in endpoints
        if each.tenant == tenant
        and any(matches_any(each.channels, channel) for channel in channels)
        and matches_any(each.types, type_)
    ]
    assert Routes(1, reversed(endpoints)).owed(tenant, tuple(channels), type_) == expected


def test_no_routes_owe_nothing() -> None:
    assert Routes(0, ()).owed("default", ("a",), "message") == []


def test_an_endpoint_that_names_our_own_types_and_no_channel_is_told_of_operations() -> None:
    types = ("hookbrook.endpoint.disabled",)
    endpoints = [endpoint(0, types=types), endpoint(1), endpoint(2, types=types, channels=("a*",))]
    owed = Routes(1, endpoints).owed("default", ("hookbrook.ops",), "hookbrook.endpoint.disabled")
    assert [each.id for each in owed] == ["ep_0"]
