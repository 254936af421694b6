"""The verbs and their help, in the order in which a newcomer needs them.

What goes wrong is one sentence on standard error and exit code 1; a wrong flag is exit code 2.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hookbrook.cli import (
    connections,
    deliveries,
    endpoints,
    events,
    history,
    jobs,
    keys,
    listen,
    sources,
    tenants,
    trigger,
)
from hookbrook.cli.serve import add_serve
from hookbrook.errors import HookbrookError

app = typer.Typer(
    name="hookbrook",
    help="Webhooks come in, webhooks go out, and browsers watch live. Start with `hookbrook demo`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
add_serve(app)


@app.command()
def demo(
    host: Annotated[str, typer.Option(help="A loopback address, since everything is open.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Hookbrook's port; the engine and the page take the next ones.")] = 4665,
    folder: Annotated[Path, typer.Option(help="Where the log and the secrets are kept between runs.")] = Path(".demo"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in a browser.")] = True,
) -> None:
    """Run the chatbot: Hookbrook, a language engine and a chat page, as three processes."""
    from hookbrook.cli.demo import run_demo

    raise typer.Exit(run_demo(host, port, folder, open_page=open_page))


app.command()(events.publish)
app.command()(events.tail)
app.command()(listen.listen)
app.command()(listen.replay)
app.command()(trigger.trigger)
app.add_typer(sources.app)
app.add_typer(endpoints.app)
app.add_typer(deliveries.app)
app.add_typer(history.app)
app.add_typer(jobs.app)
app.add_typer(tenants.app)
app.add_typer(connections.app)
app.add_typer(keys.app)


def _version(wanted: bool) -> None:
    if wanted:
        import hookbrook

        print(f"hookbrook {hookbrook.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    pass


def run() -> None:
    """Parse the command line and do what it says; ends the process."""
    try:
        app()
    except HookbrookError as error:
        from rich.console import Console

        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]hookbrook:[/] {_escape(str(error))}")
        sys.exit(1)
    except KeyboardInterrupt:
        # While the verbs were still being imported; later ones are typer's, as is a reader that left (`tail | head`).
        sys.exit(130)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
