"""`hookbrook sources`: where providers' webhooks arrive."""

import sys
from typing import Annotated, Any

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, path, show, show_table, take

app = typer.Typer(name="sources", help="Where providers' webhooks arrive.", no_args_is_help=True)

COLUMNS = ("name", "provider", "channel", "enabled", "secrets", "url")
Name = Annotated[str, typer.Argument(help="The source's name or id.")]


@app.command("list")
def list_sources(
    limit: Limit = 100, tenant: Tenant = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """All sources."""
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/sources", {"tenant": tenant} if tenant else None), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no source yet: hookbrook sources add --help")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The path in `/in/NAME`, such as `billing`.")],
    provider: Annotated[str, typer.Argument(help="Who sends: `hookbrook sources providers` lists them.")],
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", "-s", envvar="HOOKBROOK_SOURCE_SECRET", help="As the provider shows it; repeatable."),
    ] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Template, such as `gh.{body.action}`.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Template of the events' type.")] = None,
    enforce: Annotated[bool, typer.Option("--enforce/--observe", help="Refuse, or keep and flag, what fails.")] = True,
    description: Annotated[str, typer.Option("--description")] = "",
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Add a source.

    `hookbrook sources add billing stripe --secret whsec_…`
    """
    wanted: dict[str, Any] = {
        "name": name,
        "provider": provider,
        "secrets": secret or [],
        "channel": channel,
        "type": type,
        "enforce": enforce,
        "description": description,
    }
    with connect(url, key) as brook:
        made = brook.request("POST", "/v1/sources", json=wanted | ({"tenant": tenant} if tenant else {}))
    if as_json:
        show(made)
        return
    print(f"Point {provider} at {made['url']}")
    if not made["secrets"] and provider != "none":
        print("It has no secret yet, so all that arrives is refused: hookbrook sources add --help", file=sys.stderr)
    if made.get("secret"):
        print(f"Its secret, shown only now: {made['secret']}")


@app.command("show")
def show_source(name: Name, url: Url = None, key: Key = None) -> None:
    """One source, as JSON."""
    with connect(url, key) as brook:
        show(brook.request("GET", path("sources", name)))


@app.command()
def delete(name: Name, url: Url = None, key: Key = None) -> None:
    """Delete a source; its events stay."""
    with connect(url, key) as brook:
        brook.request("DELETE", path("sources", name))
    print(f"{name} is deleted; its events stay.")


@app.command()
def providers(as_json: AsJson = False, url: Url = None, key: Key = None) -> None:
    """The providers whose signatures can be verified."""
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/providers"), 10_000)
    if as_json:
        show(rows)
    else:
        show_table(rows, ("id", "title", "covers", "challenge", "checked_on"), empty="There are none.")
