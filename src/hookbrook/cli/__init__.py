"""The command line: thin verbs over the settings, the composition root and the SDK."""


def main() -> None:
    """The `hookbrook` command."""
    # Imported late: `hookbrook --help` and a wrong flag need neither the server nor an HTTP client.
    from hookbrook.cli.commands import run

    run()
