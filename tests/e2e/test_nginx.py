"""Streams through nginx as Debian ships it, with the very configuration that the documentation gives."""

import asyncio
import datetime
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.browser.chromium import Chromium
from tests.served import PATIENCE_S, Listener, Running, Served, running

pytestmark = [pytest.mark.nginx, pytest.mark.asyncio(loop_scope="module")]

HOUSE = Path(__file__).parents[2]
HOST = "hooks.example.com"
#: Shorter than the time for which the idle stream is idle, longer than two heartbeats of a second.
READ_TIMEOUT_S = 3
#: What a reader would write who knows nothing of streams. nginx then speaks HTTP/1.0 to us.
BARE = "server { listen 127.0.0.1:BARE; location / { proxy_pass http://127.0.0.1:4665; proxy_set_header Host $host; } }"
MAIN = """
daemon off; error_log stderr warn; pid {folder}/pid; {user}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {servers}
}}
"""


def documented() -> str:
    page = (HOUSE / "docs" / "streams.md").read_text("utf-8")
    (block,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    return str(block)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "cert.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Nginx:
    """One nginx in front of one port of ours."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.tls, self.bare = free_port(), free_port()
        write_certificate(folder)
        servers = documented() + BARE.replace("BARE", str(self.bare))
        for old, new in {
            "listen 443": f"listen 127.0.0.1:{self.tls}",
            "/etc/ssl/hooks.example.com": f"{folder}/cert",
            "127.0.0.1:4665": f"127.0.0.1:{upstream}",
            "proxy_read_timeout 60s": f"proxy_read_timeout {READ_TIMEOUT_S}s",
        }.items():
            assert old in servers
            servers = servers.replace(old, new)
        user = "user root;" if os.geteuid() == 0 else ""
        self._file = folder / "nginx.conf"
        self._file.write_text(MAIN.format(folder=folder, user=user, servers=servers), "utf-8")
        self._log = (folder / "log").open("wb")
        command = [os.environ["HOOKBROOK_NGINX"], "-c", str(self._file), "-p", str(folder)]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    async def ready(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.bare)
                except ConnectionRefusedError:
                    assert self._process.poll() is None, (self._file.parent / "log").read_text("utf-8")
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._log.close()


@contextmanager
def nginx_before(folder: Path, upstream: int) -> Iterator[Nginx]:
    folder.mkdir()
    nginx = Nginx(folder, upstream)
    try:
        yield nginx
    finally:
        nginx.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def brook(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("brook")
    # `--dev` goes with no names but loopback's, so a key it is.
    settings: dict[str, Any] = {"allowed_hosts": HOST, "trusted_proxies": "127.0.0.1/32", "public_channels": "*"}
    async with running(folder, dev=False, heartbeat_s=1, **settings) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def nginx(brook: Running, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nginx]:
    with nginx_before(tmp_path_factory.mktemp("front") / "nginx", brook.port) as front:
        await front.ready()
        yield front


class Curl:
    """curl over TLS and HTTP/2: what it printed so far, head and body."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    async def until(self, what: str) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while what not in self.text:
                piece = await self.process.stdout.read(4096)
                assert piece, self.text
                self.text += piece.decode()


@asynccontextmanager
async def curl(port: int, path: str, *options: str) -> AsyncIterator[Curl]:
    process = await asyncio.create_subprocess_exec(
        *("curl", "-skN", "--http2", "-D", "-", "--resolve", f"{HOST}:{port}:127.0.0.1", *options),
        f"https://{HOST}:{port}{path}",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Curl(process)
    finally:
        # Not by `process.kill`, which may reap a process that has just ended before asyncio does.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        # Read to its end, so that the transport is closed with the process.
        await process.communicate()


async def connections(brook: Running, channel: str) -> Any:
    return (await brook.http.get(f"/v1/connections?channel={channel}")).json()["data"]


async def until_left(brook: Running, channel: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await connections(brook, channel):  # noqa: ASYNC110 - what is waited for is behind HTTP
            await asyncio.sleep(0.02)


async def test_each_event_arrives_before_the_next_is_published_over_tls_and_http_2(
    brook: Running, nginx: Nginx
) -> None:
    async with curl(nginx.tls, "/v1/channels/a", "-H", "accept: text/event-stream") as reader:
        await reader.until(": hb\n")
        assert reader.text.startswith("HTTP/2 200")
        assert "content-encoding" not in reader.text.lower()
        for number in range(5):
            await brook.publish("a", f"event {number}".encode())
            await reader.until(f"data: event {number}\n")
        (row,) = await connections(brook, "a")
        assert row["address"] == "127.0.0.1"
    await until_left(brook, "a")


async def test_the_same_through_a_bare_proxy_that_speaks_http_1_0_to_us(brook: Running, nginx: Nginx) -> None:
    headers = {"accept_encoding": "gzip", "x_forwarded_for": "192.0.2.9"}
    listener = await Listener.open("127.0.0.1", nginx.bare, "/v1/channels/b", **headers)
    assert listener.status == 200
    assert "content-encoding" not in listener.headers
    await listener.until(b": hb\n")
    for number in range(5):
        await brook.publish("b", f"event {number}".encode())
        assert await listener.data(1) == [f"event {number}"]
    await listener.close()
    await until_left(brook, "b")


async def test_a_silent_stream_outlives_the_proxys_time_out(brook: Running, nginx: Nginx) -> None:
    async with curl(nginx.tls, "/v1/channels/idle", "-H", "accept: text/event-stream") as reader:
        await reader.until(": hb\n")
        (before,) = await connections(brook, "idle")
        await asyncio.sleep(READ_TIMEOUT_S + 1.5)
        await brook.publish("idle", b"still here")
        await reader.until("data: still here\n")
        assert [row["id"] for row in await connections(brook, "idle")] == [before["id"]]


async def test_the_client_is_shown_and_not_the_proxy(brook: Running, nginx: Nginx) -> None:
    options = ("-H", "accept: text/event-stream", "-H", "x-forwarded-for: 192.0.2.9")
    async with curl(nginx.tls, "/v1/channels/c", *options) as reader:
        await reader.until(": hb\n")
        assert [row["address"] for row in await connections(brook, "c")] == ["192.0.2.9"]


async def test_a_line_of_an_upload_goes_out_before_the_upload_ends(brook: Running, nginx: Nginx) -> None:
    listener = await brook.listen("/v1/channels/d")
    read, write = os.pipe()
    key = brook.app.admin_key
    options = (
        "-H",
        f"authorization: Bearer {key}",
        "-H",
        "content-type: application/x-ndjson",
        "-T",
        "-",
        "-X",
        "POST",
    )
    process = await asyncio.create_subprocess_exec(
        *("curl", "-skN", "--resolve", f"{HOST}:{nginx.tls}:127.0.0.1", *options),
        f"https://{HOST}:{nginx.tls}/v1/events",
        stdin=read,
        stdout=asyncio.subprocess.PIPE,
    )
    os.close(read)
    for number in range(3):
        os.write(write, b'{"channel": "d", "data": %d}\n' % number)
        assert await listener.data(1) == [str(number)]
    os.close(write)
    output, _ = await process.communicate()
    assert json.loads(output)["accepted"] == 3


async def test_event_source_survives_a_restart_behind_the_proxy_and_programs_are_told_502(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "log").mkdir()
    with nginx_before(tmp_path / "nginx", port) as front:
        await front.ready()
        stream = ("-H", "accept: text/event-stream")
        async with curl(front.tls, "/v1/channels/a", *stream) as reader:
            await reader.until('data: {"reason":"away","retry_ms":3000}\n')
            assert reader.text.startswith("HTTP/2 200")
            assert "content-type: text/event-stream" in reader.text
            assert "\nretry: 3000\n" in reader.text
        async with curl(front.tls, "/v1/channels/a") as program:
            await program.until("HTTP/2 502")
        served = Served(tmp_path / "log", "--allowed-hosts", HOST, "--public-channels", "*")
        served.port = port
        with served:
            async with curl(front.tls, "/v1/channels/a", *stream) as reader:
                await reader.until(": hb\n")


@pytest.mark.browser
async def test_over_http_2_one_browser_reads_more_than_six_streams(
    brook: Running, nginx: Nginx, tmp_path: Path
) -> None:
    """Six is all that it opens over HTTP/1.1; see "Six connections in a browser"."""
    async with Chromium(tmp_path) as chromium:
        for port, scheme, opened in ((nginx.tls, "https", 9), (nginx.bare, "http", 6)):
            tab = await chromium.tab()
            await tab.goto(f"{scheme}://127.0.0.1:{port}/metrics")
            await tab.js("window.streams = []")
            for number in range(9):
                await tab.js(f"streams.push(new EventSource('/v1/channels/{scheme}.{number}'))")
            count = "streams.filter((each) => each.readyState === 1).length"
            async with asyncio.timeout(PATIENCE_S):
                while await tab.js(count) < opened:  # noqa: ASYNC110 - it happens in a browser
                    await asyncio.sleep(0.05)
            # The others wait in the browser, and would go on waiting.
            await asyncio.sleep(0.3)
            assert await tab.js(count) == opened
            await tab.close()
