"""`python -m hookbrook` is the `hookbrook` command."""

from hookbrook.cli import main

main()
