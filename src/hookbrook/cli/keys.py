"""`hookbrook keys`: who may use this installation."""

from typing import Annotated, Any

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, path, show, show_table, take

app = typer.Typer(name="keys", help="API keys, and tokens for browsers.", no_args_is_help=True)

COLUMNS = ("id", "hint", "scopes", "tenant", "description", "expires_at", "created_at")


@app.command("list")
def list_keys(
    limit: Limit = 100, tenant: Tenant = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """All keys; the keys themselves are nowhere kept."""
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/keys", {"tenant": tenant} if tenant else None), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no key yet.")


@app.command()
def add(
    scopes: Annotated[list[str], typer.Argument(help="publish, subscribe, ingest or admin.")],
    description: Annotated[str, typer.Option("--description", help="Whose it is.")] = "",
    expires: Annotated[str | None, typer.Option("--expires", help="When it ends, RFC 3339.")] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Make a key. It is shown once.

    `hookbrook keys add publish subscribe --description 'the shop'`
    """
    wanted: dict[str, Any] = {"scopes": scopes, "description": description, "expires_at": expires}
    with connect(url, key) as brook:
        made = brook.request("POST", "/v1/keys", json=wanted | ({"tenant": tenant} if tenant else {}))
    if as_json:
        show(made)
    else:
        print(made["key"])


@app.command()
def delete(key_id: Annotated[str, typer.Argument(help="The key's id.")], url: Url = None, key: Key = None) -> None:
    """Delete a key; it stops working at once."""
    with connect(url, key) as brook:
        brook.request("DELETE", path("keys", key_id))
    print(f"{key_id} is deleted and works no more.")


@app.command()
def token(
    subscribe: Annotated[list[str] | None, typer.Option("--subscribe", "-s", help="Channel patterns to read.")] = None,
    publish: Annotated[list[str] | None, typer.Option("--publish", "-p", help="Channel patterns to write.")] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who will use it.")] = "",
    lifetime_s: Annotated[float | None, typer.Option("--lifetime", help="Seconds.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Mint a short-lived stream token for a browser.

    `hookbrook keys token --subscribe chat.42`
    """
    wanted: dict[str, Any] = {"sub": subject, "subscribe": subscribe or [], "publish": publish or []}
    if lifetime_s is not None:
        wanted["lifetime_s"] = lifetime_s
    with connect(url, key) as brook:
        print(brook.request("POST", "/v1/tokens", json=wanted)["token"])
