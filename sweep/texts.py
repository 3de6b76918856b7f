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
