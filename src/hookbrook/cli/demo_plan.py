"""Where the demo runs and what it keeps: three ports, one folder, two secrets."""

import base64
import contextlib
import fcntl
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class DemoFailed(Exception):
    """The demo cannot go on; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where everything is."""

    host: str
    port: int
    engine_port: int
    app_port: int
    folder: Path

    def url(self, port: int) -> str:
        return f"http://[{self.host}]:{port}" if ":" in self.host else f"http://{self.host}:{port}"


def make_plan(host: str, port: int, folder: Path, engine_port: int | None, app_port: int | None) -> Plan:
    """Choose the ports and make the folder. Raises DemoFailed with the way out."""
    try:
        open_to_others = not ipaddress.ip_address(host).is_loopback
    except ValueError:
        open_to_others = True
    if open_to_others:
        raise DemoFailed(f"The demo is open to whoever can connect, so its host is 127.0.0.1 or ::1, not {host}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoFailed(f"The folder {folder} cannot be made ({error.strerror}). Choose another: --folder.") from error
    chosen = [
        choose_port(host, port, "--port"),
        choose_port(host, next_port(port, 1, "ENGINE", engine_port), "HOOKBROOK_DEMO_ENGINE_PORT"),
        choose_port(host, next_port(port, 2, "APP", app_port), "HOOKBROOK_DEMO_APP_PORT"),
    ]
    return Plan(host=host, port=chosen[0], engine_port=chosen[1], app_port=chosen[2], folder=folder.resolve())


def next_port(port: int, distance: int, name: str, chosen: int | None) -> int:
    """The port that was asked for; else that many behind Hookbrook's; 0 if that is to be any."""
    variable = f"HOOKBROOK_DEMO_{name}_PORT"
    try:
        asked = chosen if chosen is not None else int(os.environ.get(variable, port + distance if port else 0))
    except ValueError:
        raise DemoFailed(f"{variable} must be a port number, or 0 for a free one.") from None
    return asked


def choose_port(host: str, port: int, setting: str) -> int:
    """The port if it is free, or any free one for 0."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: a port whose last connections are still fading away is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise DemoFailed(
                f"Port {port} on {host} cannot be used ({getattr(error, 'strerror', None) or error}). "
                f"Stop what runs there, or choose another by {setting}; 0 takes any free one."
            ) from error
        bound: int = probe.getsockname()[1]
        return bound


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the folder; two demos in one would fight over the log."""
    try:
        file = (folder / "lock").open("w")
    except OSError as error:
        raise DemoFailed(
            f"The folder {folder} cannot be written to ({error.strerror}). Choose another: --folder."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoFailed(f"Another demo runs in {folder}. Stop it, or choose another folder: --folder.") from None
        yield


def find_data(*, installed: str, repository: str) -> Path:
    """A folder that travels inside the wheel, and stands at the top of the repository."""
    package = Path(__file__).parents[1]
    inside = package / installed
    return inside if inside.exists() else package.parents[1] / repository


def keep_secrets(file: Path) -> dict[str, str]:
    """The two secrets of this folder, made once and readable by nobody else."""
    if not file.exists():
        made = {name: "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode() for name in ("webhook", "callback")}
        draft = file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            json.dump(made, written)
        draft.replace(file)
    try:
        kept = json.loads(file.read_text())
        return {name: str(kept[name]) for name in ("webhook", "callback")}
    except (ValueError, KeyError, TypeError):
        raise DemoFailed(f"{file} is damaged. Remove it, and the demo makes a new one.") from None
