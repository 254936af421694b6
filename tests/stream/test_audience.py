"""Direct writes: who gets them, what becomes of what a socket does not take, and that nothing is ever overtaken."""

import socket

import pytest

from hookbrook.core.sse import HEARTBEAT
from hookbrook.stream.reader import Mode
from hookbrook.stream.sink import chunk

from .conftest import MemorySink, Rig, SocketSink
from .test_closing import delete, told


class HeldSink(SocketSink):
    """Keeps what it is given until it is let go, though the socket has room, as a transport does for a turn."""

    is_held = False

    def _flush(self) -> bool:
        return not self.is_held and super()._flush()

    def let_go(self) -> None:
        self.is_held = False
        self._flush()


async def test_a_socket_that_takes_all_is_written_to_past_its_sink(rig: Rig) -> None:
    sinks = [rig.open(sink=SocketSink()) for _ in range(3)]
    await rig.publish(count=2)
    await rig.publish()
    for sink in sinks:
        assert sink.seqs == [1, 2, 3]
        assert sink.writes == []  # type: ignore[attr-defined]


async def test_a_sink_without_a_file_descriptor_gets_the_same_bytes(rig: Rig) -> None:
    direct, other, plain = rig.open(sink=SocketSink()), rig.open(sink=SocketSink(is_direct=False)), rig.open()
    await rig.publish(count=2)
    await rig.publish()
    assert direct.bytes == other.bytes == plain.bytes
    assert len(other.writes) == 2  # type: ignore[attr-defined]


async def test_what_was_written_directly_counts_when_it_is_asked_for(rig: Rig) -> None:
    early = rig.open(sink=SocketSink())
    await rig.publish()
    late, never = rig.open(sink=SocketSink()), rig.open("elsewhere", sink=SocketSink())
    await rig.publish(count=2)
    for sink in (early, late, never):
        assert sink.reader is not None
        assert sink.reader.sent == len(sink.bytes)
        assert sink.reader.sent == len(sink.bytes)
    assert early.sent > late.sent > never.sent == 0
    await rig.publish()
    for sink in (early, late, never):
        assert sink.reader is not None
        sink.reader.gone()
        assert sink.sent == len(sink.bytes)


async def test_a_direct_write_is_a_sign_of_life(rig: Rig) -> None:
    sink = rig.open(sink=SocketSink())
    await rig.publish()
    written = sink.bytes
    rig.beat()
    assert sink.bytes == written
    rig.beat()
    assert sink.bytes == written + HEARTBEAT
    await rig.publish()
    rig.beat()
    assert sink.bytes.count(HEARTBEAT) == 1


async def test_a_checkpoint_and_a_reset_say_where_direct_writes_have_left_the_reader(rig: Rig) -> None:
    sink = rig.open("a", "b", control=True, sink=SocketSink())
    await rig.publish("a", count=2)
    rig.beat()
    rig.beat()
    assert told(sink) == [("live", 0), ("ping", 2)]
    await rig.publish("b")
    await delete(rig, "a")
    assert told(sink)[2:] == [("reset", 4)]


async def test_what_a_socket_does_not_take_follows_in_order_and_holds_nobody_up(rig: Rig) -> None:
    slow, quick = SocketSink(), SocketSink()
    rig.open(sink=slow)
    rig.open(sink=quick)
    for _ in range(20):
        await rig.publish(data=b"1" * 900)
        quick.drain()
    assert slow.writes, "its socket took everything"
    assert quick.writes == []
    assert slow.seqs == quick.seqs == list(range(1, 21))
    assert slow.reader is not None
    assert slow.reader.sent == len(slow.bytes) == len(quick.bytes)


async def test_a_batch_that_is_larger_than_the_room_is_continued_where_it_was_cut(rig: Rig) -> None:
    sink = SocketSink()
    rig.open(sink=sink)
    await rig.publish(data=b"1" * 30_000)
    [rest] = sink.writes
    assert 0 < len(rest) < 30_000
    await rig.publish()
    assert [len(frame.data) for frame in sink.frames] == [30_000, 1]


async def test_a_reader_that_was_slow_is_written_to_directly_again_once_all_has_gone(rig: Rig) -> None:
    sink = SocketSink()
    rig.open(sink=sink)
    await rig.publish(data=b"1" * 30_000)
    assert len(sink.writes) == 1
    sink.drain()
    await rig.publish()
    assert len(sink.writes) == 2
    await rig.publish()
    assert len(sink.writes) == 2
    assert sink.seqs == [1, 2, 3]


async def test_a_reader_whose_socket_is_full_falls_behind_and_comes_back(rig: Rig) -> None:
    sink = SocketSink(limit=100)
    rig.open(sink=sink)
    for _ in range(20):
        await rig.publish(data=b"1" * 900)
    assert sink.reader is not None
    assert sink.reader.mode is Mode.CATCHING_UP
    # It stopped at about its limit, and the rest is in the log.
    assert sink.excess <= sink.largest
    while sink.reader.lag or sink.full:
        sink.drain()
        await rig.settled(sink)
    await rig.publish()
    assert sink.seqs == list(range(1, 22))


@pytest.mark.parametrize("what", ["heartbeat", "word", "news"])
async def test_nothing_overtakes_what_waits_in_the_sink(rig: Rig, what: str) -> None:
    sink = HeldSink()
    rig.open(sink=sink)
    await rig.publish()
    sink.is_held = True
    assert sink.reader is not None
    if what == "heartbeat":
        rig.beat()
        rig.beat()
    elif what == "word":
        sink.reader.tell(b": word\n")
    else:
        sink.mine.setblocking(True)
        sink.mine.send(chunk(b": " + b"." * 2000 + b"\n"))
        sink.mine.setblocking(False)
        while not sink.waiting:
            await rig.publish(data=b"1" * 900)
    waiting = list(sink.waiting)
    sink._theirs.recv(65536)
    await rig.publish()
    assert sink.waiting[: len(waiting)] == waiting
    assert len(sink.waiting) == len(waiting) + 1
    sink.let_go()
    await rig.publish()
    await rig.publish()
    assert sink.waiting == []


async def test_the_file_descriptor_of_a_reader_that_left_is_written_no_more(rig: Rig) -> None:
    gone, stays = SocketSink(), SocketSink()
    rig.open(sink=gone)
    rig.open(sink=stays)
    await rig.publish()
    number = gone.mine.fileno()
    assert gone.reader is not None
    gone.reader.gone()
    gone.hang_up()
    heir, other = socket.socketpair()
    with heir, other:
        # The least free numbers are taken first.
        if other.fileno() == number:
            heir, other = other, heir
        assert heir.fileno() == number
        await rig.publish()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
    assert stays.seqs == [1, 2]


async def test_a_reader_that_is_ended_gets_its_last_words_and_nothing_after_them(rig: Rig) -> None:
    sink = SocketSink()
    rig.open(sink=sink)
    await rig.publish()
    assert sink.reader is not None
    sink.reader.end(b": bye\n")
    await rig.publish()
    assert sink.bytes.endswith(b"\n\n: bye\n")
    assert sink.closed


class Refusing(SocketSink):
    """Fails at what is left of a batch."""

    def finish(self, batch: object, taken: int) -> None:
        raise OSError(f"no more than {taken} bytes of {batch}")


async def test_a_sink_that_fails_at_the_rest_ends_its_reader_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Refusing(), SocketSink()
    rig.open(sink=bad)
    rig.open(sink=good)
    await rig.publish(data=b"1" * 30_000)
    await rig.publish()
    assert bad.reader is not None
    assert bad.reader.mode is Mode.ENDED
    assert good.seqs == [1, 2]
    assert "a reader failed and was ended" in caplog.text


async def test_a_broken_socket_is_left_to_its_sink(rig: Rig) -> None:
    """Which finds the same, and ends its reader alone."""

    class Cut(SocketSink):
        def finish(self, batch: object, taken: int) -> None:
            assert taken == 0
            with pytest.raises(BrokenPipeError):
                super().finish(batch, taken)  # type: ignore[arg-type]
            assert self.reader is not None
            self.reader.gone()

    cut, good = Cut(), SocketSink()
    rig.open(sink=cut)
    rig.open(sink=good)
    cut._theirs.close()
    await rig.publish(count=2)
    assert good.seqs == [1, 2]
    assert len(rig.hub) == 1


async def test_both_ways_in_one_audience_keep_their_own_account(rig: Rig) -> None:
    sinks: list[MemorySink] = [SocketSink(is_direct=number % 2 == 0) for number in range(4)]
    for sink in sinks:
        rig.open(sink=sink)
        await rig.publish()
    for number, sink in enumerate(sinks):
        assert sink.seqs == list(range(number + 1, 5))
        assert sink.reader is not None
        assert sink.reader.sent == len(sink.bytes)
