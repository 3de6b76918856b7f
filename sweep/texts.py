"""Texts: what is written for people on one line, whatever it comes from."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""The text with an escape for each sign that cannot be printed, but for those to `keep`: `a\nb` on one line.

    Signs that turn the direction of writing round are among them, since what follows would read otherwise.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def counted(count: int, noun: str) -> str:
    """A number of things: `1 trial`, `2 trials`, `1,000 processes`."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def having(count: int, noun: str) -> str:
    """The same as a subject: `1 trial has`, `2 trials have`."""
    return f"{counted(count, noun)} {'has' if count == 1 else 'have'}"


def plural(noun: str) -> str:
    """The plural of a regular noun, which may have words before it: `more processes`."""
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
