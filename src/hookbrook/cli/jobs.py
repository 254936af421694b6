"""`hookbrook jobs`: work over many events or deliveries, which outlasts a restart; and `hookbrook endpoints replay`."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hookbrook.cli.connection import AsJson, Key, Limit, Tenant, Url, connect, path, show, show_table, take

if TYPE_CHECKING:
    from hookbrook import Hookbrook

app = typer.Typer(name="jobs", help="Send again over a range of time, and see how far it got.", no_args_is_help=True)

COLUMNS = ("id", "kind", "endpoint_id", "status", "looked_at", "sent", "skipped", "dry_run", "created_at")
#: Between looks at a job that is waited for.
POLL_S = 0.5

Id = Annotated[str, typer.Argument(help="The job's id.")]
Since = Annotated[str | None, typer.Option("--since", help="Since a time, or `2h` ago.")]
Until = Annotated[str | None, typer.Option("--until", help="Before a time, or `2h` ago.")]
Types = Annotated[list[str] | None, typer.Option("--type", "-t", help="Only these types or patterns.")]
Channels = Annotated[list[str] | None, typer.Option("--channel", "-c", help="Only these channels or patterns.")]
Rate = Annotated[float | None, typer.Option("--rate", help="Deliveries a second.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, and send nothing.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it has ended. A dry run is always waited for.")]


@app.command()
def recover(
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="Only what one endpoint is owed.")] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", help="failed (if absent), cancelled or succeeded. May be repeated.")
    ] = None,
    since: Since = None,
    until: Until = None,
    type: Types = None,
    channel: Channels = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send again what has ended without arriving.

    `hookbrook jobs recover --since 2d --rate 20`
    """
    wanted = {"kind": "recover", "endpoint_id": endpoint, "statuses": status or ["failed"], "tenant": tenant}
    wanted |= _narrowed(since, until, type, channel, rate, dry_run)
    with connect(url, key) as brook:
        report(brook, brook.request("POST", "/v1/jobs", json=wanted), wait=wait or dry_run, as_json=as_json)


def replay(
    endpoint_id: Annotated[str, typer.Argument(help="The endpoint's id.")],
    which: Annotated[
        str, typer.Option("--which", help="missing (never owed), undelivered (and failed or cancelled), or all.")
    ] = "undelivered",
    since: Since = None,
    until: Until = None,
    type: Types = None,
    channel: Channels = None,
    rate: Rate = None,
    dry_run: DryRun = False,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send past events to an endpoint, also those that it never was owed.

    `hookbrook endpoints replay ep_… --since 30d --dry-run`
    """
    wanted = {"which": which, **_narrowed(since, until, type, channel, rate, dry_run)}
    with connect(url, key) as brook:
        job = brook.request("POST", path("endpoints", endpoint_id, "replay"), json=wanted)
        report(brook, job, wait=wait or dry_run, as_json=as_json)


def _narrowed(
    since: str | None,
    until: str | None,
    types: list[str] | None,
    channels: list[str] | None,
    rate: float | None,
    dry_run: bool,
) -> dict[str, Any]:
    return {
        "since": since,
        "until": until,
        "types": types or [],
        "channels": channels or [],
        "rate": rate,
        "dry_run": dry_run,
    }


def report(brook: "Hookbrook", job: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    while wait and job["status"] == "running":
        time.sleep(POLL_S)
        job = brook.request("GET", path("jobs", job["id"]))
    if as_json:
        show(job)
    elif job["status"] == "running":
        print(f"{job['id']} is running: hookbrook jobs show {job['id']}")
    else:
        done = "removed" if job["kind"] == "erase" else "sent"
        sent = f"would be {done}" if job["dry_run"] else done
        why = f" {job['error']}" if job["error"] else ""
        print(f"{job['id']} is {job['status']}: {job['sent']} {sent}, {job['skipped']} skipped.{why}")


@app.command("list")
def list_jobs(
    limit: Limit = 50, tenant: Tenant = None, as_json: AsJson = False, url: Url = None, key: Key = None
) -> None:
    """The jobs, the oldest first."""
    with connect(url, key) as brook:
        rows = take(brook.pages("/v1/jobs", {"tenant": tenant} if tenant else None), limit)
    if as_json:
        show(rows)
    else:
        show_table(rows, COLUMNS, empty="There is no job.")


@app.command("show")
def show_job(job_id: Id, url: Url = None, key: Key = None) -> None:
    """One job and how far it got, as JSON."""
    with connect(url, key) as brook:
        show(brook.request("GET", path("jobs", job_id)))


@app.command()
def cancel(job_id: Id, url: Url = None, key: Key = None) -> None:
    """Send no more; what was sent stays sent."""
    with connect(url, key) as brook:
        job = brook.request("POST", path("jobs", job_id, "cancel"))
    print(f"{job_id} is cancelled; {job['sent']} were sent before.")


@app.command()
def delete(job_id: Id, url: Url = None, key: Key = None) -> None:
    """Forget a job that has ended."""
    with connect(url, key) as brook:
        brook.request("DELETE", path("jobs", job_id))
    print(f"{job_id} is forgotten.")
