"""Who is connected: what is counted and listed comes and goes with the streams, and nothing is left of it."""

from random import Random

from hookbrook.stream.connection import Connection
from hookbrook.stream.reader import Mode
from hookbrook.stream.subscription import Subscription

from .conftest import MemorySink, Rig


def open_as(rig: Rig, number: int, *channels: str, subject: str = "", browser: int | None = None) -> MemorySink:
    sink = MemorySink()
    tenant = "default" if number % 3 else "two"
    sink.reader = rig.hub.open(
        Subscription(tenant=tenant, channels=channels),
        sink,
        after=None,
        expires=None,
        connection=Connection(
            id=f"con_{number:026}",
            tenant=tenant,
            kind="token" if subject else "anonymous",
            subject=subject,
            rests_on=(f"tok_{number}",),
            address=f"192.0.2.{number % 4}",
            since=0,
            browser=browser,
        ),
    )
    sink.reader.resume()
    return sink


async def test_counts_follow_the_streams_and_end_at_nothing(rig: Rig) -> None:
    rng, connections = Random(3), rig.hub.connections
    open_ones: dict[int, MemorySink] = {}
    for number in range(400):
        subject = rng.choice(["", "ann", "bob"])
        channels = rng.sample(["a", "b", "c.*"], rng.randint(1, 3))
        open_ones[number] = open_as(rig, number, *channels, subject=subject, browser=rng.choice([None, 1, 2]))
        while len(open_ones) > rng.randint(0, 20):
            _, sink = open_ones.popitem() if rng.random() < 0.5 else (0, open_ones.pop(next(iter(open_ones))))
            assert sink.reader is not None
            sink.reader.gone() if rng.random() < 0.5 else sink.reader.end()
        assert len(connections) == len(open_ones)
        expected = sum(f"192.0.2.{each % 4}" == "192.0.2.1" for each in open_ones)
        assert connections.at_address("192.0.2.1") == expected
    for sink in open_ones.values():
        assert sink.reader is not None
        sink.reader.gone()
    left = vars(connections)
    assert {name: held for name, held in left.items() if held} == {}


async def test_channels_are_listed_in_order_and_by_tenant(rig: Rig) -> None:
    for number, channels in enumerate([("b",), ("a", "c.*"), ("a",)]):
        open_as(rig, number, *channels)
    connections = rig.hub.connections
    everything = [("a", "default", 2), ("b", "two", 1), ("c.*", "default", 1)]
    assert connections.channels(None, after=("", ""), limit=10) == everything
    assert connections.channels(None, after=("a", "default"), limit=1) == everything[1:2]
    assert connections.channels("two", after=("", ""), limit=10) == everything[1:2]


async def test_a_page_goes_on_after_an_id_in_the_order_of_their_beginning(rig: Rig) -> None:
    for number in (5, 1, 3, 2, 4):
        open_as(rig, number, "a")
    pages = rig.hub.connections
    first = [connection.id for connection, _ in pages.page(lambda _c, _r: True, after="", limit=2)]
    second = [connection.id for connection, _ in pages.page(lambda _c, _r: True, after=first[-1], limit=9)]
    assert [int(name.removeprefix("con_")) for name in first + second] == [1, 2, 3, 4, 5]


async def test_those_that_are_revoked_are_told_why_and_get_nothing_more(rig: Rig) -> None:
    one, other = open_as(rig, 1, "a", subject="ann"), open_as(rig, 2, "a", subject="ann")
    assert rig.hub.connections.revoke(lambda each: "tok_1" in each.rests_on) == 1
    await rig.publish("a")
    assert [frame.type for frame in one.frames] == ["hookbrook.expired"]
    assert '"reason":"revoked"' in one.frames[0].data.replace(" ", "")
    assert one.closed
    assert other.seqs == [1]


async def test_a_reader_that_is_behind_says_by_how_much_and_what_comes_next(rig: Rig) -> None:
    slow = open_as(rig, 1, "a")
    assert slow.reader is not None
    assert (slow.reader.mode, slow.reader.lag) == (Mode.LIVE, 0)
    slow.limit = 1
    await rig.publish("a", count=1)
    await rig.publish("a", count=4)
    assert slow.reader.lag == 4
    missing = await slow.reader.next_missing()
    assert missing is not None
    assert missing.seq == 2
    slow.limit = 10**9
    slow.drain()
    slow.reader.resume()
    await rig.settled(slow)
    assert (slow.reader.lag, await slow.reader.next_missing()) == (0, None)
