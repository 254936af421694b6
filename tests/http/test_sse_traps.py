"""The traps of Server-Sent Events that others fell into, one by one, and where each is tried.

A trap is tried here on a running server, or in the tests that are named, which must exist.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.served import Running, running

from hookbrook.core.sse import Parser

pytestmark = pytest.mark.asyncio(loop_scope="module")
TESTS = Path(__file__).parents[1]

TRAPS: dict[str, tuple[str, ...]] = {
    "data is split on CR, LF and CRLF, so that none injects a field": (
        "core/test_sse.py::test_text_is_split_at_every_line_end_so_that_none_injects_a_field",
        "http/test_stream.py::test_text_json_with_line_ends_and_binary_stay_one_event_each",
    ),
    "NUL in an id has it ignored, an empty id resets the cursor, an id without data moves it silently": (
        "core/test_sse.py::test_an_id_with_nul_is_ignored",
        "core/test_sse.py::test_nothing_that_breaks_a_line_gets_into_the_type_or_the_id",
        "core/test_sse.py::test_an_id_persists_until_another_comes_and_an_empty_one_resets_it",
        "core/test_sse.py::test_an_id_without_data_moves_the_cursor_silently",
    ),
    "one leading byte order mark is stripped, and a partial final event is discarded": (
        "core/test_sse.py::test_one_leading_bom_is_stripped_and_a_second_is_not",
        "core/test_sse.py::test_a_partial_final_event_is_not_dispatched",
    ),
    "an empty data line dispatches, and no data line does not": (
        "core/test_sse.py::test_empty_data_dispatches_and_no_data_does_not",
        "core/test_sse.py::test_empty_text_is_one_empty_data_line_and_still_dispatches",
    ),
    "any status but 200 ends an EventSource for good": (
        "http/test_busy.py::test_it_is_a_stream_that_ends_because_an_event_source_gives_up_on_anything_else",
        "http/test_stream.py::test_a_foreign_or_unreadable_last_event_id_begins_with_a_reset",
        "stream/test_deadlines.py::test_a_reader_is_told_thirty_seconds_before_its_right_ends_and_again_when_it_does",
        "http/test_stream.py::test_an_eventsource_whose_token_has_expired_is_told_so_inside_a_stream",
    ),
    "a finished stream is opened again and again unless it says that it is done": (
        "http/test_closing.py::test_an_open_stream_ends_and_from_then_on_the_answer_is_204",
        "client/test_stream.py::test_204_ends_the_iteration",
    ),
    "a native EventSource reads no header, so a gap is told in the stream": (
        "http/test_stream.py::test_a_trimmed_cursor_and_a_trimmed_time_begin_with_a_reset_and_then_all_that_is_kept",
        "stream/test_closing.py::test_a_reader_whose_channel_was_trimmed_is_told_and_others_are_not",
    ),
    "the query repeats at every reconnect, so the header wins, and polyfills spell it in many ways": (
        "http/test_stream.py::test_last_event_id_wins_over_everything_in_the_query",
        "http/test_stream.py::test_a_cursor_in_the_query_continues_behind_it",
    ),
    "a Last-Event-ID of other characters or over 128 would cost a preflight": (
        "http/test_sse_traps.py::test_a_last_event_id_needs_no_preflight_and_one_is_answered",
        "http/test_guard.py::test_a_preflight_of_a_listed_page_is_answered",
    ),
    "between replay and live nothing is lost or doubled": (
        "stream/test_seam.py::Seam",
        "stream/test_reader.py::test_readers_who_join_while_many_publish_get_everything_once",
        "http/test_stream.py::test_readers_that_join_at_any_moment_miss_nothing_and_get_nothing_twice",
    ),
    "without an epoch old cursors would name new events after the history was reset": (
        "core/test_cursor.py::test_a_restored_backup_does_not_know_the_cursors_that_came_after_it",
        "stream/test_position.py::test_a_cursor_beyond_the_log_is_foreign",
    ),
    "a seventh connection of one browser hangs silently over HTTP/1.1": (
        "http/test_admission.py::test_a_browser_without_a_connection_left_is_told_of_in_the_log_once",
        "browser/test_streams.py::test_tabs_share_one_connection_and_each_sees_every_event_once_also_when_the_first_is_closed",
    ),
    "sleep and the back/forward cache end sockets without an error": (
        "browser/test_streams.py::test_event_source_in_the_back_forward_cache_misses_nothing",
        "browser/test_streams.py::test_a_browser_that_was_put_to_sleep_misses_nothing",
    ),
    "tokens in URLs leak into logs, and a cookie needs an exact origin": (
        "http/test_protocol.py::test_one_line_is_logged_a_request_and_no_token_in_it",
        "http/test_guard.py::test_a_listed_page_may_ask_and_read",
    ),
    "a comment is invisible to JavaScript, so a watchdog needs a named ping": (
        "stream/test_reader.py::test_whoever_asks_is_told_once_when_it_has_caught_up_and_where_it_stands",
        "http/test_sse_traps.py::test_a_heartbeat_can_be_seen_by_javascript_if_it_is_asked_for",
    ),
    "compression and buffering delay tokens": (
        "http/test_sse_traps.py::test_nothing_is_compressed_or_buffered_on_its_way",
        "e2e/test_nginx.py::test_each_event_arrives_before_the_next_is_published_over_tls_and_http_2",
    ),
    # What thirteen clients did when they were cut off.
    "the id stands last, so that half an event is never taken for received": (
        "core/test_sse.py::test_a_frame_has_its_type_then_its_data_then_its_id",
        "http/test_sse_traps.py::test_a_frame_cut_anywhere_never_moves_the_cursor",
        "e2e/test_clients.py::test_a_reader_that_is_cut_off_in_every_way_gets_each_event_once_and_in_order",
    ),
    "while a server is down it refuses connections, since a 503 would end an EventSource": (
        "e2e/test_nginx.py::test_event_source_survives_a_restart_behind_the_proxy_and_programs_are_told_502",
        "http/test_sse_traps.py::test_a_server_that_is_on_its_way_down_refuses_connections",
    ),
    "a heartbeat is a comment without a blank line, and retry rides in a real event": (
        "core/test_sse.py::test_a_heartbeat_is_a_comment_without_a_blank_line_and_dispatches_nothing",
        "stream/test_reader.py::test_retry_comes_with_the_greeting_and_is_part_of_the_first_event",
    ),
    "every event has an id of its own and data on one line, checkpoints too": (
        "stream/test_control.py::test_each_is_one_named_event_with_data_and_its_id_if_any_is_last",
        "http/test_sse_traps.py::test_every_event_has_an_id_that_no_other_has",
    ),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def brook(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("traps")
    async with running(folder, heartbeat_s=1, allowed_origins="https://app.example.com") as here:
        yield here


@pytest.mark.parametrize("trap", TRAPS)
async def test_each_trap_is_tried_by_a_test_that_there_is(trap: str) -> None:
    for place in TRAPS[trap]:
        file, _, name = place.partition("::")
        source = (TESTS / file).read_text("utf-8")
        assert re.search(rf"^(?:async )?(?:def|class) {name}\b", source, re.MULTILINE), place


async def test_a_last_event_id_needs_no_preflight_and_one_is_answered(brook: Running) -> None:
    published = await brook.publish("a")
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", published["cursor"])
    answer = await brook.http.request(
        "OPTIONS",
        "/v1/channels/a",
        headers={
            "origin": "https://app.example.com",
            "access-control-request-method": "GET",
            "access-control-request-headers": "last-event-id",
        },
    )
    assert answer.is_success
    assert "last-event-id" in answer.headers["access-control-allow-headers"].lower()


async def test_a_heartbeat_can_be_seen_by_javascript_if_it_is_asked_for(brook: Running) -> None:
    asking = await brook.listen("/v1/channels/quiet?control=1")
    frames = await asking.take(3)
    assert frames[0].type == "hookbrook.live"
    assert "hookbrook.ping" in {frame.type for frame in frames}
    plain = await brook.listen("/v1/channels/quiet")
    await plain.until(b": hb\n: hb\n")
    assert b"ping" not in plain.raw


async def test_nothing_is_compressed_or_buffered_on_its_way(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a", accept_encoding="gzip, br, zstd")
    assert "content-encoding" not in listener.headers
    assert listener.headers["x-accel-buffering"] == "no"
    for number in range(3):
        await brook.publish("a", str(number))
        assert await listener.data(1) == [str(number)]


async def test_a_frame_cut_anywhere_never_moves_the_cursor(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/a")
    first = await brook.publish("a", b"one\ntwo", **{"idempotency-key": "cut"})
    await listener.take(1)
    whole = bytes(listener.raw)
    for cut in range(len(whole)):
        parser = Parser(last_event_id="before")
        parser.feed(whole[:cut])
        assert parser.last_event_id == "before"
    parser = Parser()
    parser.feed(whole)
    assert parser.last_event_id == first["cursor"]


async def test_every_event_has_an_id_that_no_other_has(brook: Running) -> None:
    listener = await brook.listen("/v1/channels/many")
    rows = [{"channel": "many", "data": number} for number in range(200)]
    assert (await brook.http.post("/v1/events", json=rows)).status_code == 201
    frames = await listener.take(200)
    assert len({frame.last_event_id for frame in frames}) == 200
    assert b"\ndata: \n" not in listener.raw


async def test_a_server_that_is_on_its_way_down_refuses_connections(tmp_path: Path) -> None:
    async with running(tmp_path) as leaving:
        listener = await leaving.listen("/v1/channels/a")
        leaving.server.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", leaving.port)
        # Those who are there are told in their streams.
        await leaving.app.drain(0)
        assert [frame.type for frame in await listener.rest()] == ["hookbrook.drain"]
