"""Those who are measured against each other at streaming, each started, and how one listens and publishes there.

nginx with nchan, and Pushpin, come from Debian's packages `libnginx-mod-nchan` and `pushpin`. What is not installed is
named with its package and left out.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crowd import stamped
from harness import LOAD_CORE, SERVER_CORE, free_port, post, process

NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
#: What one server may hold open.
CONNECTIONS = 16_000
#: Names of those to compare, for a quick look; all that are installed if there are none.
CHOSEN = tuple(filter(None, os.environ.get("BENCH_CONTENDERS", "").split(",")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    name: str
    #: Of the first process; the others are its children.
    pid: int
    port: int
    #: What a reader sends.
    listen: bytes
    publish_port: int
    #: A request that publishes an event made now.
    publish: Callable[[], bytes]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n".encode()


@contextlib.contextmanager
def ours(place: Path, *flags: str) -> Iterator[Contender]:
    port = free_port()
    store = f"sqlite:///{place / f'{port}.db'}"
    arguments = ("-m", "hookbrook", "serve", "--dev", "--port", str(port), "--store", store, "--log-level", "warning")
    with process(*arguments, *flags, port=port) as pid:
        yield Contender(
            name="Hookbrook",
            pid=pid,
            port=port,
            listen=get("/v1/stream?channel=bench"),
            publish_port=port,
            publish=lambda: post("/v1/channels/bench", stamped(), "text/plain"),
        )


@contextlib.contextmanager
def limit(_place: Path) -> Iterator[Contender]:
    port = free_port()
    with process("benchmarks/stream_limit.py", str(port), port=port) as pid:
        yield _plain("bare uvloop", pid, port)


@contextlib.contextmanager
def sse_starlette(_place: Path) -> Iterator[Contender]:
    port = free_port()
    with process("benchmarks/stream_peers.py", str(port), "sse-starlette", port=port) as pid:
        yield _plain("sse-starlette", pid, port)


@contextlib.contextmanager
def fastapi(_place: Path) -> Iterator[Contender]:
    port = free_port()
    with process("benchmarks/stream_peers.py", str(port), "fastapi", port=port) as pid:
        yield _plain("FastAPI", pid, port)


def _plain(name: str, pid: int, port: int) -> Contender:
    return Contender(
        name=name,
        pid=pid,
        port=port,
        listen=get("/"),
        publish_port=port,
        publish=lambda: post("/", stamped(), "text/plain"),
    )


NGINX = """\
load_module {module};
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {files};
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    nchan_message_buffer_length 100;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{ nchan_subscriber eventsource; nchan_channel_id bench; }}
        location = /pub {{ nchan_publisher; nchan_channel_id bench; }}
    }}
}}
"""


@contextlib.contextmanager
def nchan(place: Path) -> Iterator[Contender]:
    port = free_port()
    home = place / f"nginx-{port}"
    home.mkdir()
    configuration = home / "nginx.conf"
    configuration.write_text(
        NGINX.format(
            module=NCHAN_MODULE,
            # Its worker must be able to write below our folder.
            user="user root;" if os.geteuid() == 0 else "",
            files=CONNECTIONS + 1000,
            place=home,
            connections=CONNECTIONS,
            port=port,
        )
    )
    with _program(["nginx", "-p", str(home), "-c", str(configuration), "-e", str(home / "start.log")], port) as pid:
        yield Contender(
            name="nginx + nchan",
            pid=pid,
            port=port,
            listen=get("/sub"),
            publish_port=port,
            publish=lambda: post("/pub", stamped(), "text/plain"),
        )


@contextlib.contextmanager
def pushpin(place: Path) -> Iterator[Contender]:
    port, publish_port, backend = free_port(), free_port(), free_port()
    home = place / f"pushpin-{port}"
    home.mkdir()
    _write_pushpin_settings(home, port=port, publish_port=publish_port)
    (home / "routes").write_text(f"* 127.0.0.1:{backend}\n")

    def publish() -> bytes:
        content = f"data: {stamped().decode()}\n\n"
        items = {"items": [{"channel": "bench", "formats": {"http-stream": {"content": content}}}]}
        return post("/publish/", json.dumps(items).encode())

    with (
        process("benchmarks/grip.py", str(backend), port=backend, core=LOAD_CORE),
        # Asks the backend on Pushpin's behalf, and has nothing to do once a stream is open.
        _program(["zurl", f"--config={home}/zurl.conf"]),
        _program(["pushpin", f"--config={home}/pushpin.conf"], port, publish_port) as pid,
    ):
        _wait_for_stream(port)
        yield Contender(name="Pushpin", pid=pid, port=port, listen=get("/"), publish_port=publish_port, publish=publish)


def _write_pushpin_settings(home: Path, *, port: int, publish_port: int) -> None:
    """Debian's own, with everything that is a place or a port moved into the folder."""
    zurl = {
        "in_spec": f"ipc://{home}/zurl-in",
        "in_stream_spec": f"ipc://{home}/zurl-in-stream",
        "out_spec": f"ipc://{home}/zurl-out",
        "in_req_spec": "",
        "deny": "",
    }
    pushpin = {
        "include": home / "internal.conf",
        "rundir": home,
        "logdir": home,
        "http_port": port,
        "routesfile": home / "routes",
        "push_in_http_port": publish_port,
        "push_in_spec": f"ipc://{home}/in",
        "push_in_sub_specs": f"ipc://{home}/sub",
        "command_spec": f"ipc://{home}/command",
        "message_rate": 100_000,
    }
    internal = {
        "zurl_out_specs": zurl["in_spec"],
        "zurl_out_stream_specs": zurl["in_stream_spec"],
        "zurl_in_specs": zurl["out_spec"],
    }
    for original, changes in (
        ("/etc/zurl.conf", zurl),
        ("/etc/pushpin/pushpin.conf", pushpin),
        ("/usr/lib/pushpin/internal.conf", internal),
    ):
        lines = Path(original).read_text("utf-8").splitlines()
        names = [line.partition("=")[0] for line in lines]
        changed = [f"{n}={changes[n]}" if n in changes else line for n, line in zip(names, lines, strict=True)]
        (home / Path(original).name).write_text("\n".join(changed))


@contextlib.contextmanager
def _program(command: list[str], *ports: int) -> Iterator[int]:
    """A program that is no Python, pinned like the others, with its children; ready once its ports accept."""
    child = subprocess.Popen(
        command,
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for each in ports:
            _wait_for(child, each)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_for(child: subprocess.Popen[bytes], port: int) -> None:

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if child.poll() is not None:
            raise SystemExit(f"{child.args!r} ended with {child.returncode}")
        time.sleep(0.05)


def _wait_for_stream(port: int) -> None:
    """Pushpin's processes find each other a moment after its port accepts."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            probe.sendall(get("/"))
            probe.settimeout(2)
            with contextlib.suppress(OSError):
                if probe.recv(100).startswith(b"HTTP/1.1 200"):
                    return
        time.sleep(0.2)
    raise SystemExit("Pushpin does not answer")


Make = Callable[[Path], contextlib.AbstractContextManager[Contender]]


def installed() -> tuple[dict[str, Make], list[str]]:
    """Those that can be measured here, ours and the limit first, and a sentence for each that cannot."""
    found: dict[str, Make] = {"Hookbrook": ours, "bare uvloop": limit}
    missing = []
    for name, make, there, package in (
        ("nginx + nchan", nchan, NCHAN_MODULE.exists() and shutil.which("nginx"), "libnginx-mod-nchan (Debian)"),
        ("Pushpin", pushpin, shutil.which("pushpin"), "pushpin (Debian)"),
        ("sse-starlette", sse_starlette, importlib.util.find_spec("sse_starlette"), "sse-starlette (PyPI)"),
        ("FastAPI", fastapi, True, "fastapi"),
    ):
        if there:
            found[name] = make
        else:
            missing.append(f"{name} is left out: install the package {package}.")
    return {name: make for name, make in found.items() if name in CHOSEN or not CHOSEN}, missing
