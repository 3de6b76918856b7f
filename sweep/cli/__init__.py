"""The command line: the only place that prints, catches `SweepError` and sets exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
import typer.core

from sweep import __version__, homes, signals
from sweep.cli import (
    analyse,
    bisect,
    calibrate,
    curves,
    data,
    doctor,
    environments,
    inspect,
    output,
    plan,
    report,
    run,
    starters,
    status,
    trying,
)
from sweep.errors import USAGE, SweepError
from sweep.texts import printable

# Newer versions of Typer contain a copy of Click, older ones import it. This finds the class of
# whichever is in use.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


class _Commands(typer.core.TyperGroup):
    """The group of commands.

    Typer ends an interrupted command with 130 and no message. This group says what the cause was.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a signal ends it with a message and the signal's exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            output.say(signals.cause())
            raise typer.Exit(signals.exit_code()) from None


app = typer.Typer(
    name="sweep",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Is framework A faster than B on my model, by how much, and how sure are we?",
)

for _command in (
    plan.plan,
    run.run,
    starters.init,
    bisect.bisect,
    run.reproduce,
    plan.schema,
    analyse.summarize,
    analyse.compare,
    analyse.verify,
    curves.curves,
    report.report,
    report.plot,
    status.status,
    inspect.ls,
    inspect.show,
    doctor.doctor,
    calibrate.calibrate,
):
    app.command()(_command)
app.command("try")(trying.try_)
app.add_typer(environments.app, name="env")
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        output.emit(f"sweep {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line and end the process with the documented exit code."""
    # PyArrow's default, mimalloc, keeps tens of megabytes that are not in use.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    output.prepare_streams()
    homes.make_absolute()
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except SweepError as error:
        output.show_error(error)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        output.say(signals.cause())
        return signals.exit_code()
    except _UsageError as error:
        # The message is empty if the help was printed instead.
        if message := _usage_message(error):
            output.show_error(SweepError(message, _usage_hint(error)))
        return USAGE
    except UnicodeEncodeError as error:
        wrong = next(filter(_is_not_text, sys.argv), None)
        if wrong is None:
            raise
        output.show_error(
            SweepError(
                f"{printable(wrong)} is no text in UTF-8: {error.reason}", "write it in UTF-8"
            )
        )
        return USAGE
    except BrokenPipeError:
        # The reader of the output closed it, as `head` does.
        return 0
    return code if isinstance(code, int) else 0


def _is_not_text(argument: str) -> bool:
    """Return whether an argument has bytes that are not UTF-8.

    Python decodes such bytes as lone surrogates.
    """
    return any("\ud800" <= sign <= "\udfff" for sign in argument)


def _usage_message(error: Exception) -> str:
    message: str = error.format_message()  # type: ignore[attr-defined]
    return message.rstrip(".")


def _usage_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if context else "see sweep --help"
