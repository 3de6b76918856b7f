"""Credentials: those that URLs carry, removed from a text before it is shown or kept.

`redacted` finds them by their form in any text, in time linear in its length. A value that is known
to be a URL needs no such guess: `redacted_url` takes everything up to the last `@` of its authority,
quotes and blanks included. `remember` keeps what was found in such a value, so that `redacted` finds
it again wherever a tool repeats it.
"""

from __future__ import annotations

import re

_SHORTEST = (
    8  # letters of a password that is looked for alone: a shorter one could be a word of the text
)

# `\/` is how some writers of JSON spell a slash. Each pattern starts at a sign that its own repetition cannot contain:
# a search that fails at one place does not read what the next one reads again.
_IN_FRONT = re.compile(r"(:\\?/\\?/)[^/\s'\"]+@")
_PARAMETER = re.compile(r"([?&#;])([\w.-]+)=([^&\s'\"#;]+)")
_URL = re.compile(r"(:\\?/\\?/)([^/?#]*)@")
_URL_PARAMETER = re.compile(r"([?&#;])([\w.-]+)=([^&#;]+)")

_PATH = re.compile(r":\\?/\\?/[^/?#]*(/[^?#\s]*)")
_TOKEN = re.compile(
    r"(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{16,}"
)  # a name has no digits, or marks between words

_SECRET_PARTS = (
    "token",
    "secret",
    "passw",
    "signature",
    "credential",
    "key",
    "accesscode",
    "sessionid",
)
_SECRET_WORDS = frozenset({"sig", "sas", "hmac", "jwt", "auth", "oauth", "pwd", "pass", "bearer"})

_remembered: dict[str, str] = {}  # what to look for -> what stands there instead


def redacted(text: str) -> str:
    """`text` without the user names, passwords and tokens of its URLs, and without those remembered."""
    for secret, instead in _remembered.items():
        text = text.replace(secret, instead)
    return _PARAMETER.sub(_without_secret, _IN_FRONT.sub(r"\1***@", text))


def redacted_url(value: str) -> str:
    """A value that is a URL, without its credentials, whatever signs they are made of."""
    return _URL_PARAMETER.sub(_without_secret, _URL.sub(r"\1***@", value))


def remember(value: str) -> None:
    """Have `redacted` remove the credentials of this URL from every text from now on."""
    for found in _URL.finditer(value):
        authority = found[2]
        _remembered[f"{authority}@"] = "***@"
        password = authority.partition(":")[2]
        if len(password) >= _SHORTEST:
            _remembered[password] = "***"
    for found in _URL_PARAMETER.finditer(value):
        if _is_secret(found[2]) and len(found[3]) >= _SHORTEST:
            _remembered[found[3]] = "***"


def remember_index(value: str) -> None:
    """As `remember`, for an index: its path may hold a token, as `https://host/TOKEN/simple`.

    Not so for files: theirs hold digests, by which one is told from another.
    """
    remember(value)
    for found in _PATH.finditer(value):
        for part in found[1].split("/"):
            if _TOKEN.fullmatch(part):
                _remembered[part] = "***"


def _without_secret(found: re.Match[str]) -> str:
    """A parameter of a URL, its value left out where its name says that it is secret."""
    mark, name, _ = found.groups()
    return f"{mark}{name}=***" if _is_secret(name) else found[0]


def _is_secret(name: str) -> bool:
    words = re.split(r"[._-]", name.lower())
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS) or not _SECRET_WORDS.isdisjoint(words)
