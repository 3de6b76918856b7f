"""Credentials in URLs: removed from a text before it is shown or stored.

`redacted` finds them by their form in any text, in time linear in its length. A value that is known
to be a URL needs no such guess: `redacted_url` removes everything up to the last `@` of its
authority, quotes and blanks included. `remember` stores the secrets of such a value, so that
`redacted` finds them again wherever a tool repeats them.
"""

from __future__ import annotations

import re

# Characters of a secret that is removed wherever it occurs: a shorter one might be an ordinary
# word of the text.
_SHORTEST = 8

# Some writers of JSON spell a slash `\/`. Each pattern starts with a character that its own
# repetition cannot contain, which keeps the search linear: no part is read twice.
_IN_FRONT = re.compile(r"(:\\?/\\?/)[^/\s'\"]+@")
_PARAMETER = re.compile(r"([?&#;])([\w.-]+)=([^&\s'\"#;]+)")
_URL = re.compile(r"(:\\?/\\?/)([^/?#]*)@")
_URL_PARAMETER = re.compile(r"([?&#;])([\w.-]+)=([^&#;]+)")

_PATH = re.compile(r":\\?/\\?/[^/?#]*(/[^?#\s]*)")
# Letters and digits mixed; names have no digits, or separators between words.
_TOKEN = re.compile(r"(?=[0-9]*[A-Za-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{16,}")

# Names of URL parameters that hold secrets: those that contain a part, or a whole word.
_SECRET_PARTS = (
    *("token", "secret", "passw", "signature", "credential", "key"),
    *("accesscode", "sessionid"),
)
_SECRET_WORDS = frozenset({"sig", "sas", "hmac", "jwt", "auth", "oauth", "pwd", "pass", "bearer"})

_remembered: dict[str, str] = {}  # secret -> its replacement


def redacted(text: str) -> str:
    """Return text without the user names, passwords and tokens of its URLs.

    Remembered secrets are removed too.
    """
    for secret, replacement in _remembered.items():
        text = text.replace(secret, replacement)
    return _PARAMETER.sub(_without_secret, _IN_FRONT.sub(r"\1***@", text))


def redacted_url(value: str) -> str:
    """Return a URL without its credentials, whatever characters they contain."""
    return _URL_PARAMETER.sub(_without_secret, _URL.sub(r"\1***@", value))


def remember(value: str) -> None:
    """Make `redacted` remove the credentials of this URL from every text from now on."""
    for match in _URL.finditer(value):
        user_info = match[2]
        _remembered[f"{user_info}@"] = "***@"
        password = user_info.partition(":")[2]
        if len(password) >= _SHORTEST:
            _remembered[password] = "***"
    for match in _URL_PARAMETER.finditer(value):
        if _is_secret(match[2]) and len(match[3]) >= _SHORTEST:
            _remembered[match[3]] = "***"


def remember_index(value: str) -> None:
    """Remember the credentials of a package index, whose path may hold a token.

    An example is `https://host/TOKEN/simple`. Paths of files are not searched: they contain
    digests, which tell one file from another.
    """
    remember(value)
    for match in _PATH.finditer(value):
        for part in match[1].split("/"):
            if _TOKEN.fullmatch(part):
                _remembered[part] = "***"


def _without_secret(match: re.Match[str]) -> str:
    """Return a parameter of a URL, without its value if its name is that of a secret."""
    separator, name, _ = match.groups()
    return f"{separator}{name}=***" if _is_secret(name) else match[0]


def _is_secret(name: str) -> bool:
    words = re.split(r"[._-]", name.lower())
    joined = "".join(words)
    return any(part in joined for part in _SECRET_PARTS) or not _SECRET_WORDS.isdisjoint(words)
