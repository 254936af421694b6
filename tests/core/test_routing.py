from hypothesis import given, settings
from hypothesis import strategies as st

from hookbrook.core.channel import matches_any
from hookbrook.core.endpoint import Endpoint
from hookbrook.core.routing import FEW, Rerouted, Routes

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


_many = st.lists(
    st.tuples(st.integers(0, FEW + 4), _tenants, st.lists(_patterns, max_size=2), st.lists(_patterns, max_size=2))
    | st.integers(0, FEW + 4),
    max_size=2 * FEW,
)


@settings(max_examples=50)
@given(_many, _tenants, st.lists(_names, min_size=1, max_size=2), _names)
def test_routes_that_were_changed_are_those_that_would_be_read_anew(
    steps: list[tuple[int, str, list[str], list[str]] | int], tenant: str, channels: list[str], type_: str
) -> None:
    """A step saves an endpoint or deletes one."""
    changed = Routes(0, ())
    known: dict[str, Endpoint] = {}
    for version, step in enumerate(steps, 1):
        if isinstance(step, int):
            before = known.pop(f"ep_{step}", None)
            told = changed.change(version, (), (f"ep_{step}",))
            assert told == ([] if before is None else [Rerouted(before, None)])
        else:
            number, whose, where, what = step
            saved = endpoint(number, tenant=whose, channels=tuple(where), types=tuple(what))
            assert changed.change(version, (saved,), ()) == [Rerouted(known.get(saved.id), saved)]
            known[saved.id] = saved
    fresh = Routes(len(steps), known.values())
    assert (changed.version, changed.by_id) == (fresh.version, fresh.by_id)
    assert changed.owed(tenant, tuple(channels), type_) == fresh.owed(tenant, tuple(channels), type_)


def test_nothing_is_left_of_endpoints_that_are_gone() -> None:
    routes = Routes(0, ())
    endpoints = [endpoint(number, channels=("a", f"b{number}*"), types=("x", "y*")) for number in range(2 * FEW)]
    routes.change(1, endpoints, ())
    routes.change(2, (), [each.id for each in endpoints])
    assert (routes.by_id, routes._filed) == ({}, {})
    assert routes._patterns["default"].match(("a", "b1")) == set()
