"""The place in the log that a listener keeps on its disk."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hookbrook.cli.bookmark import Place, default_folder, keeping, path_of, read
from hookbrook.errors import HookbrookError

SERVER = "http://127.0.0.1:4665"


def test_a_place_is_there_again_for_whoever_comes_next(tmp_path: Path) -> None:
    with keeping(tmp_path / "deep" / "er", SERVER, "billing", "") as bookmark:
        assert bookmark.place.cursor is None
        bookmark.place.forward_to = "http://localhost:3000/"
        bookmark.move("k3-1")
        bookmark.move("k3-2", batch="evt_1")
        bookmark.move("k3-3")
    with keeping(tmp_path / "deep" / "er", SERVER, "billing", "") as bookmark:
        assert bookmark.place == Place(
            server=SERVER, source="billing", cursor="k3-3", batch="evt_1", forward_to="http://localhost:3000/"
        )
        assert bookmark.path.stat().st_mode & 0o777 == 0o600


def test_servers_sources_and_names_have_places_of_their_own(tmp_path: Path) -> None:
    of = [
        (SERVER, "a", ""),
        (SERVER, "b", ""),
        (SERVER, "a", "b"),
        ("http://127.0.0.1.4665", "a", ""),
        (SERVER, "a-b", ""),
    ]
    assert len({path_of(tmp_path, *each) for each in of}) == len(of)


def test_two_listeners_do_not_move_the_same_place(tmp_path: Path) -> None:
    with keeping(tmp_path, SERVER, "billing", ""):
        with pytest.raises(HookbrookError, match="--name"), keeping(tmp_path, SERVER, "billing", ""):
            pass
        with keeping(tmp_path, SERVER, "billing", "second"):
            pass
    with keeping(tmp_path, SERVER, "billing", ""):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"server": 1}', "\xff"])
def test_a_file_that_is_none_of_ours_is_named_and_not_overwritten(tmp_path: Path, text: str) -> None:
    path = path_of(tmp_path, SERVER, "billing", "")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(HookbrookError, match=str(path)):
        read(path, SERVER, "billing")
    assert path.read_bytes() == text.encode("latin-1")


def test_a_disk_that_takes_nothing_ends_it(tmp_path: Path) -> None:
    with keeping(tmp_path, SERVER, "billing", "") as bookmark:
        bookmark.move("k3-1")
        bookmark.path.with_suffix(".new").mkdir()
        with pytest.raises(HookbrookError, match="cannot be kept"):
            bookmark.move("k3-2")
    (tmp_path / "file").write_text("")
    with pytest.raises(HookbrookError, match="cannot be kept"), keeping(tmp_path / "file", SERVER, "a", ""):
        pass


WRITER = """
import sys
from pathlib import Path
from hookbrook.cli.bookmark import keeping
with keeping(Path(sys.argv[1]), "http://127.0.0.1:4665", "billing", "") as bookmark:
    for number in range(10**9):
        bookmark.move(f"k3-{number}")
        print(number, flush=True)
"""


@pytest.mark.crash
def test_a_kill_at_any_moment_leaves_a_whole_place_and_no_lock(tmp_path: Path) -> None:
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(20)]
        os.kill(process.pid, signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().splitlines() if line]
        process.wait()
        process.stdout.close()
        with keeping(tmp_path, "http://127.0.0.1:4665", "billing", "") as bookmark:
            assert bookmark.place.cursor in (f"k3-{seen[-1]}", f"k3-{seen[-1] + 1}")


def test_the_folder_is_where_the_system_keeps_states() -> None:
    assert default_folder({"XDG_STATE_HOME": "/var/s"}) == Path("/var/s/hookbrook")
    for ignored in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}):
        assert default_folder(ignored) == Path.home() / ".local" / "state" / "hookbrook"
