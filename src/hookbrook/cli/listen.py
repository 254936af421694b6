"""`hookbrook listen` and `hookbrook replay`: webhooks on a developer's machine, as their provider sent them.

The verbs and their flags; what they do is imported when it is done, since other verbs would wait for it.
"""

from pathlib import Path
from typing import Annotated

import typer

from hookbrook.cli.connection import Key, Url, connect, fail

#: Seconds for the local program to answer; one that is being debugged takes longer, and has to be allowed to.
TIMEOUT_S = 30.0

Source = Annotated[str, typer.Argument(help="The source's name.")]
ForwardTo = Annotated[
    str | None,
    typer.Option(
        "--forward-to",
        "-f",
        help="Your program: `3000`, `3000/hook`, `localhost:3000/hook` or a URL. Remembered, if it is left out the "
        "next time.",
    ),
]
Types = Annotated[list[str] | None, typer.Option("--type", "-t", help="Only these types or patterns; repeatable.")]
Match = Annotated[
    str | None,
    typer.Option("--match", "-m", help="Only if this JMESPath over `{headers, query, body, type, …}` is true."),
]
Unverified = Annotated[bool, typer.Option("--unverified", help="Also what failed verification and was kept.")]
Since = Annotated[str | None, typer.Option("--since", help="From the past: `2h`, or a time.")]
Resign = Annotated[bool, typer.Option("--resign", help="Sign anew by --secret and with the time of now.")]
Secret = Annotated[
    str | None,
    typer.Option("--secret", "-s", envvar="HOOKBROOK_SOURCE_SECRET", help="What your program verifies with."),
]
Provider = Annotated[str | None, typer.Option("--provider", help="Sign as this one does, instead of the source's.")]
SignUrl = Annotated[
    str | None, typer.Option("--sign-url", help="The URL that is signed, if it is not that of --forward-to.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for your program to answer.")]
SkipVerify = Annotated[bool, typer.Option("--skip-verify", help="Accept any certificate of your program.")]
Name = Annotated[str, typer.Option("--name", help="A place in the log of its own, for a second listener.")]
State = Annotated[Path | None, typer.Option("--state", help="The folder in which places in the log are kept.")]


def listen(
    source: Source,
    forward_to: ForwardTo = None,
    type: Types = None,
    match: Match = None,
    unverified: Unverified = False,
    since: Since = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=0, help="From the last N; 0 is now.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="From behind a cursor.")] = None,
    resign: Resign = False,
    secret: Secret = None,
    provider: Provider = None,
    sign_url: SignUrl = None,
    timeout: Timeout = TIMEOUT_S,
    skip_verify: SkipVerify = False,
    name: Name = "",
    state: State = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Forward what arrives at a source to a program on this machine, as the provider sent it.

    Goes on where it stopped, also after a restart of this machine: what came meanwhile arrives then.

    `hookbrook listen billing --forward-to http://localhost:3000/hook`
    """
    if sum(start is not None for start in (since, last, after)) > 1:
        fail("give one of --since, --last and --after")
    from hookbrook.cli.listening import Wishes
    from hookbrook.cli.listening import listen as begin

    wishes = Wishes(
        source=source, forward_to=forward_to, types=type or [], match=match, unverified=unverified, since=since,
        last=last, resign=resign, secret=secret, provider=provider, sign_url=sign_url, timeout_s=timeout,
        skip_verify=skip_verify, name=name, state=state, server=url,
    )  # fmt: skip
    with connect(url, key) as brook:
        begin(brook, wishes, after)


def replay(
    source: Source,
    forward_to: ForwardTo = None,
    last: Annotated[int | None, typer.Option("--last", "-n", min=1, help="The last N; 1 if nothing is said.")] = None,
    since: Since = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="The one with this event id; repeatable.")] = None,
    type: Types = None,
    match: Match = None,
    unverified: Unverified = False,
    edit: Annotated[bool, typer.Option("--edit", "-e", help="Change headers and body in $EDITOR first.")] = False,
    resign: Resign = False,
    secret: Secret = None,
    provider: Provider = None,
    sign_url: SignUrl = None,
    timeout: Timeout = TIMEOUT_S,
    skip_verify: SkipVerify = False,
    name: Name = "",
    state: State = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send webhooks that have arrived to a program on this machine once more.

    `hookbrook replay billing --last 3 --resign --secret whsec_…`
    """
    if sum(bool(choice) for choice in (last, since, id)) > 1:
        fail("give one of --last, --since and --id")
    from hookbrook.cli.listening import Wishes
    from hookbrook.cli.listening import replay as send

    wishes = Wishes(
        source=source, forward_to=forward_to, types=type or [], match=match, unverified=unverified, since=since,
        last=last, resign=resign, secret=secret, provider=provider, sign_url=sign_url, timeout_s=timeout,
        skip_verify=skip_verify, name=name, state=state, server=url,
    )  # fmt: skip
    with connect(url, key) as brook:
        if not send(brook, wishes, id or [], edit=edit):
            raise typer.Exit(1)
