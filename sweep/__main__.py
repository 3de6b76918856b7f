"""`python -m sweep`: the command line."""

from sweep.cli import main

main()
