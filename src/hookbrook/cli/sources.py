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
    dedupe: Annotated[
        str | None, typer.Option("--dedupe", help="Template of the id by which repeats are known.")
    ] = None,
    dedupe_window: Annotated[
        float | None, typer.Option("--dedupe-window", help="Seconds for which they are; 0 takes each for a new one.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", help="Where webhooks may come from; repeatable.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option("--public-url", help="What the provider's address begins with, before `/in/NAME`.")
    ] = None,
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
        "dedupe": dedupe,
        "dedupe_window_s": dedupe_window,
        "networks": network or [],
        "public_url": public_url,
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
def explain(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="How many of the newest.")] = 5,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Why its webhooks fail: the newest that could not be verified, each with the likely mistake."""
    with connect(url, key) as brook:
        failures = take(brook.pages(path("sources", name, "failures")), limit)
    if as_json:
        show(failures)
        return
    if not failures:
        print("Nothing has failed that is still known.", file=sys.stderr)
    for failure in failures:
        request = failure["request"]
        sender = f" from {request['address']}" if request["address"] else ""
        more = f", and {failure['skipped']} more like it before" if failure["skipped"] else ""
        print(f"{failure['received_at']}  {failure['reason']}  {request['size']} bytes{sender}{more}")
        print(f"    {failure['cause']}{'' if failure['proven'] else ' (likely)'}: {failure['explanation']}")


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
