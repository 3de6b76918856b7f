"""Text for people: printable on one line, with nouns in the right number."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""Return the text with unprintable characters escaped, except those in `keep`.

    A newline becomes `\n`. Characters that change the direction of writing are escaped too: they
    could disguise the text after them.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def counted(count: int, noun: str) -> str:
    """Return a number of things: `1 trial`, `2 trials`, `1,000 processes`."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def having(count: int, noun: str) -> str:
    """Return a number of things as a subject with its verb: `1 trial has`, `2 trials have`."""
    return f"{counted(count, noun)} {'has' if count == 1 else 'have'}"


def plural(noun: str) -> str:
    """Return the plural of a regular noun, which may have words before it: `more processes`."""
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"
