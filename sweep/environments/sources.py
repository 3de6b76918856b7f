"""Sources: the places that packages may come from, and the texts of a grid that may reach uv.

Installed code is executed. So it must come over an encrypted connection, as a wheel with its
complete hash, or from this machine.

uv takes a line that starts with `-` for an option, reads several places from one variable, and
expands variables in URLs. So a text of the grid reaches uv only as exactly one requirement, one
place or one version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from urllib.parse import SplitResult, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from sweep.credentials import redacted_url
from sweep.errors import SweepError

_ENCRYPTED = frozenset({"https", "ssh"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HASH = re.compile(r"sha256=[0-9a-f]{64}")
_PYTHON = re.compile(r"[0-9]+(\.[0-9]+)*")
_BACKEND = re.compile(r"[a-z][a-z0-9.]*")
# Some URL parsers take `\` for `/`, and uv expands variables.
_MISREAD = ("\\", "${")
_HTTPS_HINT = "write https://, or for a wheel add its hash: URL#sha256=…"


def check(key: str, text: str) -> None:
    """Raise SweepError where a text is not valid for the key of an environment."""
    if not text.isprintable():
        raise SweepError(
            f"an environment's {key} holds control characters: {text!r}", "write it on one line"
        )
    if key in _CHECKS:
        _CHECKS[key](text)


def check_requirement(text: str) -> None:
    """Raise SweepError for an invalid requirement, and for one with an unprotected URL."""
    try:
        url = Requirement(text).url
    except InvalidRequirement:
        hint = 'write it as pip takes it: "numpy<2"'
        if text.lstrip().startswith("-"):
            hint = (
                "options are no requirements: "
                "index_url: and find_links: say where packages come from"
            )
        raise SweepError(f"{redacted_url(text)!r} is no requirement", hint) from None
    if url:
        _check_url(url, may_be_wheel=True)


def check_python(text: str) -> None:
    """Raise SweepError where a text is not a version of Python."""
    if not _PYTHON.fullmatch(text):
        raise SweepError(f"{text!r} is no version of Python", 'write one as in python: "3.10"')


def is_whole_hash(fragment: str) -> bool:
    """Return whether the fragment of a URL is a complete SHA-256 hash."""
    return bool(_HASH.fullmatch(fragment))


def unprotected(places: str, trusted: Collection[str] = ()) -> list[str]:
    """Return the places in one of uv's variables that are not protected.

    A place is protected if it is encrypted, on this machine, or on a `trusted` host.
    """
    return [place for place in _split_places(places) if not _is_protected(place, trusted)]


def _split_places(places: str) -> list[str]:
    """Return the places in a variable, without names as in `corporate=https://host/simple`."""
    urls = []
    for place in places.replace(",", " ").split():
        name, equal, url = place.partition("=")
        is_named = bool(equal) and bool(re.fullmatch(r"[\w.-]+", name))
        urls.append(url if is_named else place)
    return urls


def _check_index(text: str) -> None:
    _check_single("index_url", text)
    _check_url(text)


def _check_link(text: str) -> None:
    # A path may contain blanks.
    if "," in text or "://" in text:
        _check_single("find_links", text)
    _check_url(text)


def _check_wheel(text: str) -> None:
    if "://" in text:
        _check_single("wheel", text)
        _check_url(text, may_be_wheel=True)


def _check_single(key: str, text: str) -> None:
    """Raise SweepError for a comma or blank.

    They separate places in uv's variables, and a URL from what follows it in a line.
    """
    if re.search(r"[\s,]", text):
        message = f"an environment's {key} is not one place: {redacted_url(text)!r}"
        raise SweepError(message, "name one place, with %20 for a blank and %2C for a comma")


def _check_backend(text: str) -> None:
    if not _BACKEND.fullmatch(text):
        raise SweepError(f"{text!r} is no torch_backend", "write cpu, auto, or a CUDA as cu126")


def _check_url(url: str, may_be_wheel: bool = False) -> None:
    if any(sign in url for sign in _MISREAD):
        hint = "write / and the value itself: \\ and ${…} are not read the same way by every tool"
        raise SweepError(f"{redacted_url(url)} is no plain URL", hint)
    if not _is_protected(url) and not (may_be_wheel and _is_hashed_wheel(url)):
        raise SweepError(
            f"{redacted_url(url)} could be changed by anyone on the way here", _HTTPS_HINT
        )


def _is_protected(place: str, trusted: Collection[str] = ()) -> bool:
    parts = _split(place)
    if parts is None or "\\" in place:
        return False
    scheme = parts.scheme.rpartition("+")[2]  # git+https
    if scheme in {"", "file"} | _ENCRYPTED:
        return True
    host = parts.netloc.rpartition("@")[2].lower()
    return parts.hostname in {*_LOOPBACK, *trusted} or host in trusted


def _is_hashed_wheel(url: str) -> bool:
    parts = _split(url)
    return parts is not None and parts.path.endswith(".whl") and is_whole_hash(parts.fragment)


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # brackets around what is no address
        return None


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "python": check_python,
    "requires": check_requirement,
    "build": check_requirement,
    "wheel": _check_wheel,
    "index_url": _check_index,
    "find_links": _check_link,
    "torch_backend": _check_backend,
}
