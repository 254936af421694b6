"""`hookbrook demo`: the chatbot of `examples/chatbot` as three watched processes, Hookbrook, an engine and an app.

What they know is kept in one folder between runs. A process that dies, as by `kill -9`, is started again with a line
in the terminal; Ctrl-C or SIGTERM ends all three within seconds, and they do not outlive the demo's own death.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hookbrook import AsyncHookbrook
from hookbrook.cli.child import Child, ChildFailed
from hookbrook.cli.demo_plan import DemoFailed, Plan, find_data, keep_secrets, lock, make_plan
from hookbrook.errors import HookbrookError

DEFAULT_PORT = 4665
DEFAULT_FOLDER = Path(".demo")

#: Hookbrook is told to drain in less time than it has to end.
DRAIN_S = 2
#: A process that dies younger than this did not run at all; after so many of those in a row the demo gives up.
YOUNG_S = 3.0
MAX_EARLY_DEATHS = 5

#: The engine is away for as long as its restart takes, so it is tried again soon and then less often.
ENGINE_RETRY_S = (1, 1, 2, 2, 5, 5, 10, 30, 60, 300, 1800)
SOURCE = "engine"
CHATBOT = "examples/chatbot"
LABEL = {"demo": "chatbot"}


def run_demo(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    folder: Path | str = DEFAULT_FOLDER,
    *,
    engine_port: int | None = None,
    app_port: int | None = None,
    open_page: bool = True,
) -> int:
    """Run the demo until it is told to stop; the exit code.

    Args:
        host: a loopback address, since everything is open.
        port: Hookbrook's; 0 takes a free one. The engine and the app take the next ones.
        folder: where the log, the secrets and the output of the processes are kept.
        engine_port: instead of the next one; or `HOOKBROOK_DEMO_ENGINE_PORT`.
        app_port: likewise; or `HOOKBROOK_DEMO_APP_PORT`.
        open_page: show the page in a browser, if there is a screen.
    """
    try:
        plan = make_plan(host, port, Path(folder), engine_port, app_port)
        with lock(plan.folder):
            asyncio.run(Demo(plan, open_page=open_page).run())
    except (DemoFailed, ChildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class Demo:
    """The three processes together."""

    def __init__(self, plan: Plan, *, open_page: bool) -> None:
        self._plan = plan
        self._open_page = open_page
        self._secrets = keep_secrets(plan.folder / "secrets.json")
        self._url = plan.url(plan.port)
        self._page = plan.url(plan.app_port)
        self._children: list[Child] = []

    async def run(self) -> None:
        """Start everything, say how to use it, and watch it until a signal comes. Raises DemoFailed."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                await work
        finally:
            for task in (work, stopped):
                task.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)
            if self._children:
                print("Stopping …", flush=True)
            await asyncio.gather(*(child.stop() for child in self._children[1:]))
            await asyncio.gather(*(child.stop() for child in self._children[:1]))

    async def _work(self) -> None:
        await self._start(self._hookbrook())
        engine = await self._start(self._engine())
        await self._register()
        await self._start(self._app(str(engine["engine"])))
        self._say_how_to_use_it(str(engine["engine"]))
        try:
            async with asyncio.TaskGroup() as watching:
                for child in self._children:
                    watching.create_task(self._keep_alive(child))
        except* DemoFailed as failures:
            failure = failures.exceptions[0]
        raise failure

    async def _start(self, child: Child) -> dict[str, Any]:
        print(f"Starting the {child.name} …" if child.name != "hookbrook" else "Starting Hookbrook …", flush=True)
        self._children.append(child)
        return await child.start()

    async def _keep_alive(self, child: Child) -> None:
        early_deaths = 0
        while True:
            started = time.monotonic()
            await child.wait()
            early_deaths = early_deaths + 1 if time.monotonic() - started < YOUNG_S else 0
            if early_deaths == MAX_EARLY_DEATHS:
                raise DemoFailed(f"{child.name} does not stay alive. {child.tail()}")
            print(f"{child.name} (pid {child.pid}) {child.fate()}; starting it again …", flush=True)
            await asyncio.sleep(0.2 * early_deaths)
            with contextlib.suppress(ChildFailed):  # then it is dead or hung, and the next round says so
                await child.start()
                print(f"{child.name} runs again, as pid {child.pid}.", flush=True)
                continue
            await child.stop()

    def _hookbrook(self) -> Child:
        plan = self._plan
        network = f"{plan.host}/{128 if ':' in plan.host else 32}:{plan.engine_port}"
        command = [sys.executable, "-m", "hookbrook", "serve", "--dev", "--host", plan.host, "--port", str(plan.port)]
        environment = {
            "HOOKBROOK_STORE": "sqlite:///hookbrook.db",
            "HOOKBROOK_ALLOW_NETWORKS": network,
            "HOOKBROOK_DRAIN_S": str(DRAIN_S),
        }
        return Child("hookbrook", plan.folder, command, environment, f"{self._url}/readyz")

    def _engine(self) -> Child:
        plan = self._plan
        command = [*script("engine.py"), "--host", plan.host, "--port", str(plan.engine_port)]
        command += ["--callback-url", f"{self._url}/in/{SOURCE}", "--docs", *map(str, find_docs())]
        command += setting("WORK_SECONDS", "--work-seconds")
        environment = {
            "ENGINE_WEBHOOK_SECRET": self._secrets["webhook"],
            "ENGINE_CALLBACK_SECRET": self._secrets["callback"],
        }
        return Child("engine", plan.folder, command, environment, f"{plan.url(plan.engine_port)}/healthz")

    def _app(self, engine: str) -> Child:
        plan = self._plan
        command = [*script("app.py"), "--host", plan.host, "--port", str(plan.app_port), "--engine", engine]
        command += setting("PACE", "--pace")
        return Child("app", plan.folder, command, {"HOOKBROOK_URL": self._url}, f"{self._page}/healthz")

    async def _register(self) -> None:
        """The source at which the engine calls back, and the endpoint at which it is asked; both only once."""
        plan = self._plan
        source = {
            "name": SOURCE,
            "provider": "standard-webhooks",
            "secrets": [self._secrets["callback"]],
            "channel": "engine.replies",
            "type": "{body.type}",
            "description": "The engine of the chatbot demo calls back here.",
        }
        endpoint = {
            "url": f"{plan.url(plan.engine_port)}/webhook",
            "types": ["chat.message"],
            "retry": list(ENGINE_RETRY_S),
            "description": "The engine of the chatbot demo.",
            "metadata": LABEL,
        }
        try:
            async with AsyncHookbrook(self._url) as hb:
                await put(hb, "/v1/sources", source, made_with={}, is_ours=lambda each: each["name"] == SOURCE)
                secret = {"secret": self._secrets["webhook"]}
                await put(
                    hb, "/v1/endpoints", endpoint, made_with=secret, is_ours=lambda each: each["metadata"] == LABEL
                )
        except HookbrookError as error:
            raise DemoFailed(f"The source and the endpoint of the demo cannot be registered: {error}") from error

    def _say_how_to_use_it(self, engine: str) -> None:
        pids = ", ".join(f"{child.name} {child.pid}" for child in self._children)
        command = find_command()
        url = "" if self._plan.port == DEFAULT_PORT else f" --url {self._url}"
        print(
            f"""
The chat, answered {engine}, is open:

    {self._page}

Three commands to try in another terminal:

    {command} publish news "Hello from the server!"{url}
    {command} tail "*" --last 10{url}
    {command} sources add github github --secret my-secret{url}

Try to break it while it answers: kill -9 any of these ({pids}).
What they log is in {self._plan.folder}. Ctrl-C stops everything.
""",
            flush=True,
        )
        if self._open_page and sys.stdout.isatty() and has_screen():
            webbrowser.open(self._page)


async def put(
    hb: AsyncHookbrook,
    path: str,
    wanted: dict[str, Any],
    *,
    made_with: dict[str, Any],
    is_ours: Callable[[dict[str, Any]], bool],
) -> None:
    """Make it so: change what is ours, or else create it with what only a new one takes."""
    async for each in hb.pages(path):
        if is_ours(each):
            await hb.request("PATCH", f"{path}/{each['id']}", json=wanted)
            return
    await hb.request("POST", path, json={**wanted, **made_with})


def find_command() -> str:
    """How to call `hookbrook` from here: by name, or by its place if this environment is not the terminal's."""
    ours = Path(sys.executable).parent / "hookbrook"
    if shutil.which("hookbrook") == str(ours) or not ours.exists():
        return "hookbrook"
    return str(ours.relative_to(Path.cwd())) if ours.is_relative_to(Path.cwd()) else str(ours)


def script(name: str) -> list[str]:
    return [sys.executable, str(find_data(installed=f"_{CHATBOT}", repository=CHATBOT) / name)]


def find_docs() -> list[Path]:
    """What the engine answers from: `HOOKBROOK_DEMO_DOCS`, or else our own pages."""
    if chosen := os.environ.get("HOOKBROOK_DEMO_DOCS"):
        return [Path(chosen).resolve()]
    docs = find_data(installed="_docs", repository="docs")
    return [docs, docs.parent / "README.md", find_data(installed=f"_{CHATBOT}", repository=CHATBOT) / "README.md"]


def setting(name: str, flag: str) -> list[str]:
    """A flag for what `HOOKBROOK_DEMO_…` says, if it says something."""
    value = os.environ.get(f"HOOKBROOK_DEMO_{name}")
    return [flag, value] if value else []


def has_screen() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hookbrook.cli.demo", description="Run the chatbot demo.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("HOOKBROOK_DEMO_PORT", DEFAULT_PORT)))
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("HOOKBROOK_DEMO_FOLDER", DEFAULT_FOLDER)))
    parser.add_argument("--engine-port", type=int)
    parser.add_argument("--app-port", type=int)
    parser.add_argument("--no-open", action="store_true", help="do not show the page in a browser")
    options = parser.parse_args()
    return run_demo(
        options.host,
        options.port,
        options.folder,
        engine_port=options.engine_port,
        app_port=options.app_port,
        open_page=not options.no_open,
    )


if __name__ == "__main__":
    sys.exit(main())
