"""`hookbrook serve`: one flag per setting, made from the one table of settings."""

import gc
import logging
import os
import sys
from collections.abc import Mapping
from inspect import Parameter, Signature
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from hookbrook.cli.logs import configure
from hookbrook.config import Settings, describe, load
from hookbrook.errors import ConfigError

#: The settings that are switches rather than values.
SWITCHES = ("dev",)

SWITCH_INTERVAL_S = 0.0001
#: Objects made and not yet freed before the collector looks at the young ones.
GC_THRESHOLD = 20_000


def add_serve(app: typer.Typer) -> None:
    """Add the verb with its flags."""

    def serve(**flags: Any) -> None:
        _serve(flags)

    parameters = [_parameter(each.name, each.flag, each.default, each.about) for each in describe()]
    parameters.append(_parameter("config", "--config", "hookbrook.toml", "The file of settings."))
    serve.__doc__ = (
        "Run the gateway. Flags win over `HOOKBROOK_*` variables, those over `hookbrook.toml`, and that over the "
        "defaults shown here."
    )
    serve.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command()(serve)


def _parameter(name: str, flag: str, default: str, about: str) -> Parameter:
    about = f"{about} [default: {default}]" if default else about
    if name in SWITCHES:
        annotation: Any = Annotated[bool | None, typer.Option(f"{flag}/--no-{name}", help=about, show_default=False)]
    else:
        metavar = name.rpartition("_")[2].upper()
        annotation = Annotated[str | None, typer.Option(flag, help=about, metavar=metavar, show_default=False)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _serve(flags: Mapping[str, object]) -> None:
    settings = load(flags, os.environ, Path.cwd())
    _check_key_folder(settings)
    configure(settings.log_level, settings.log_format)
    # The server and its libraries take half a second to import; a wrong setting is told before that.
    from hookbrook.app import run

    def announce(port: int, admin_key: str | None) -> None:
        _announce(settings, port, admin_key)

    _tune()
    run(settings, announce=announce)


def _tune() -> None:
    """Settings of the interpreter that suit this process; a host program that mounts the app keeps its own.

    Threads of the store must not wait 5 ms, Python's default, for their turn against a busy event loop: a commit needs
    about ten turns. And next to nothing of what a request leaves behind is a cycle, so the collector need not look
    after every 700 objects, nor ever again at the hundred thousand that importing made.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)


def _announce(settings: Settings, port: int, admin_key: str | None) -> None:
    logger = logging.getLogger("hookbrook")
    url = settings.public_url or f"http://{settings.host}:{port}"
    logger.info("listening on %s, store %s%s", url, settings.store_path, ", open (--dev)" if settings.dev else "")
    if admin_key is None:
        return
    if sys.stderr.isatty():
        print(
            f"\nThis is the administrator's key. It is shown only now:\n\n    export HOOKBROOK_KEY={admin_key}\n",
            file=sys.stderr,
        )
        return
    path = _write_new(settings.admin_key_path, admin_key + "\n")
    logger.info("the administrator's key is in %s", path)


def _write_new(path: Path, text: str) -> Path:
    """Write a file of mode 0600 that did not exist; beside it, if it did: it may hold the key of another log."""
    for number in count():
        chosen = path.with_name(f"{path.name}.{number}") if number else path
        try:
            # O_EXCL: never follow a link or overwrite a file that somebody put there.
            descriptor = os.open(chosen, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        return chosen
    raise AssertionError("count() does not end")


def _check_key_folder(settings: Settings) -> None:
    """The first start makes a key that is known only once, so there must be a place for it before it is made."""
    folder = settings.admin_key_path.parent
    if settings.dev or settings.store_path.exists() or sys.stderr.isatty() or os.access(folder, os.W_OK | os.X_OK):
        return
    raise ConfigError("admin_key_file", f"cannot write in {folder}. Make the folder and let this user write there.")
