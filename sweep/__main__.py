"""`sweep`, and `python -m sweep`: the command line in a process of its own."""

from __future__ import annotations

import sys

from sweep import signals


def main() -> None:
    """Run the command line and end the process with the documented exit code."""
    signals.listen()
    try:
        from sweep import cli

        cli.main()
    except KeyboardInterrupt:  # before the command line is there to catch it
        sys.exit(signals.exit_code())
    finally:
        signals.over()


if __name__ == "__main__":
    main()
