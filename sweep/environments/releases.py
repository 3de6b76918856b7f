"""Releases: the versions of a package that the configured indexes and wheel folders list.

uv installs versions but does not list them, so the lists are read here: pages of PEP 503 and
PEP 691, and flat folders or pages of `find-links`. Places, certificates, trusted hosts, proxies and
credentials in URLs are those of uv (`indexes`); a keyring is not used. Only lists are downloaded.
"""

from __future__ import annotations

import functools
import html.parser
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import uv
from packaging import tags, utils
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from sweep import process
from sweep.catalog import Framework
from sweep.credentials import redacted, redacted_url
from sweep.environments.indexes import Indexes
from sweep.environments.resolver import WHEELS_ALONE
from sweep.environments.specification import specify
from sweep.errors import SweepError, Unavailable
from sweep.grid.ranges import Range
from sweep.versions import normal

_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, "
    "application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1"
)
_TIMEOUT_S = 30.0
Overrides = Mapping[str, Mapping[str, Any]]  # the grid's `environments`

_YES = ("1", "true", "yes", "on")
_HINT = (
    "sweep doctor shows where packages are looked for; "
    "without a network, name exact versions instead of a range"
)


class Unanswered(Exception):  # noqa: N818  what happened
    """A place gives no list. The message is the reason."""


class File(NamedTuple):
    """A wheel or source distribution of a release; only wheels have tags."""

    version: Version
    tags: frozenset[tags.Tag]
    requires_python: str

    def suits(self, python: str) -> bool:
        """Return whether this machine can install the file on a Python, as `3.10`."""
        is_of_this_platform = not self.tags or not self.tags.isdisjoint(_tags_of(python))
        return is_of_this_platform and _admits(self.requires_python, python)


@dataclass(frozen=True)
class Releases:
    """The files of a package that are not yanked, and places without an answer, with reasons."""

    files: Sequence[File]
    unanswered: Sequence[str] = ()

    @functools.cached_property
    def _by_version(self) -> Mapping[Version, Sequence[File]]:
        found: dict[Version, list[File]] = {}
        for file in self.files:
            found.setdefault(Version(file.version.public), []).append(file)
        return found

    @property
    def versions(self) -> list[Version]:
        """Every release with a file, without local labels: `2.13.0+cpu` is a build of 2.13.0."""
        return sorted(self._by_version)

    def suits(self, version: Version, pythons: Iterable[str]) -> bool:
        """Return whether this machine can install a release on one of these Pythons."""
        files = self._by_version.get(version, ())
        return any(file.suits(python) for python in pythons for file in files)


def releases(package: str, indexes: Indexes) -> Releases:
    """Return the releases of a package; raise Unavailable where no place lists any."""
    if unprotected := indexes.unprotected:
        hint = "name it with https://, or its host as trusted-host in pip's configuration"
        raise Unavailable(f"{unprotected[0]} could be changed by anyone on the way here", hint)
    name = utils.canonicalize_name(package)
    files: list[File] = []
    unanswered: list[str] = []
    for place, list_files in _places(indexes):
        try:
            listed = list_files(name)
        except Unanswered as error:
            unanswered.append(f"{redacted(redacted_url(place))}: {redacted(str(error))}")
        else:
            files += filter(None, (_file(each, name) for each in listed))
    if not files:
        raise Unavailable(
            "; ".join([f"no version of {package} is listed anywhere", *unanswered]), _HINT
        )
    return Releases(files, tuple(unanswered))


def chosen(
    wanted: Range, framework: Framework, listed: Releases, overrides: Overrides
) -> list[str]:
    """Return the listed versions that a range takes and that this machine can install.

    The Pythons for a version are those of its recipe or of the grid's `environments`. Raises
    SweepError where no version is left.
    """

    def pythons(version: Version) -> Sequence[str]:
        requirement = f"{framework.name}=={normal(str(version))}"
        return specify(framework, str(version), override=overrides.get(requirement)).python

    found = wanted.chosen(listed.versions, lambda version: listed.suits(version, pythons(version)))
    if found:
        return found
    if unsuitable := wanted.chosen(listed.versions):
        newest = unsuitable[-1]
        tried = ", ".join(pythons(Version(newest)))
        message = (
            f"no release in {wanted} can be installed here: {newest} has no file for Python {tried}"
        )
        raise SweepError(
            message, "python: in the grid's environments names another Python, by version"
        )
    stable = [str(version) for version in listed.versions if not version.is_prerelease]
    known = (
        f"releases go from {stable[0]} to {stable[-1]}" if stable else "it has pre-releases alone"
    )
    raise SweepError(f"there is no release in {wanted}", known)


class _Listed(NamedTuple):
    """A file in the list of a place."""

    name: str
    requires_python: str = ""
    yanked: bool = False


_List = Callable[[str], Sequence[_Listed]]  # of the files of a package


def _places(indexes: Indexes) -> Iterator[tuple[str, _List]]:
    """Yield every place where uv searches, with the function that lists its files."""
    variables = indexes.variables
    for link in variables.get("UV_FIND_LINKS", "").split(","):
        if link.strip():
            yield link, functools.partial(_of_link, link.strip(), variables)
    if indexes.no_index:
        return
    told = [variables.get(name, "").split() for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL")]
    default = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL") or _default()
    for index in dict.fromkeys([*told[0], *told[1], *default.split()]):
        url = _without_name(index)
        yield url, functools.partial(_of_index, url.rstrip("/"), variables)


@functools.cache
def _default() -> str:
    """Return uv's default index, which it writes into the lock file of no requirements."""
    options = ["--emit-index-url", "--no-header", "--no-config", "--offline", "--quiet"]
    ended = process.run(
        [uv.find_uv_bin(), "pip", "compile", "-", *options], env={"PATH": "/usr/bin:/bin"}
    )
    return ended.stdout.partition("--index-url")[2].strip()


def _without_name(index: str) -> str:
    """Return the URL of a named index, as `corporate=https://host/simple`."""
    name, equal, url = index.partition("=")
    return url if equal and "/" not in name else index


def _of_index(url: str, variables: Mapping[str, str], package: str) -> Sequence[_Listed]:
    """Return the files of a package in an index; none where the index does not have it."""
    folder = _folder(url)
    if folder is None:
        return _parsed(*_fetched(f"{url}/{package}/", variables, may_be_absent=True))
    page = folder / package / "index.html"
    return _parsed(page.read_text(encoding="utf-8"), "text/html") if page.is_file() else []


def _of_link(link: str, variables: Mapping[str, str], _package: str) -> Sequence[_Listed]:
    """Return all files in a flat folder, or those that a page links to."""
    place = _folder(link)
    if place is None:
        return _parsed(*_fetched(link, variables))
    try:
        if place.is_file():
            return _parsed(place.read_text(encoding="utf-8"), "text/html")
        return [_Listed(path.name) for path in place.iterdir()]
    except OSError as error:
        raise Unanswered(error.strerror or str(error)) from None


def _folder(place: str) -> Path | None:
    """Return the path of a place on this machine, None for one on the network."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if "://" in place else Path(place).expanduser()


def _fetched(
    url: str, variables: Mapping[str, str], may_be_absent: bool = False
) -> tuple[str, str]:
    """Return text and type of a page; "" where it `may_be_absent` and is. Raises Unanswered."""
    if variables.get("UV_OFFLINE", "").lower() in _YES:
        raise Unanswered("not asked, since UV_OFFLINE is set")
    proxy = variables.get("ALL_PROXY", "")
    is_trusted = (
        urlsplit(url).hostname in variables.get("UV_INSECURE_HOST", "").replace(",", " ").split()
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # urllib3 warns of hosts that the user has called trusted
            answer = requests.get(
                url,
                headers={"Accept": _ACCEPT},
                timeout=_TIMEOUT_S,
                verify=not is_trusted and (variables.get("SSL_CERT_FILE") or True),
                proxies={"all": proxy} if proxy else None,
            )
        if may_be_absent and answer.status_code == requests.codes.not_found:
            return "", "text/html"
        answer.raise_for_status()
    except (requests.RequestException, OSError) as error:
        raise Unanswered(_first_cause(error)) from None
    return answer.text, answer.headers.get("Content-Type", "text/html")


def _first_cause(error: BaseException) -> str:
    """Return the message of the innermost error; outer ones add only addresses of objects."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    text = str(inner or error)
    return text.partition(": ")[2] or text if inner else text


def _parsed(text: str, kind: str) -> list[_Listed]:
    """Return the files in a page of an index, in JSON (PEP 691) or HTML (PEP 503).

    Raises Unanswered where it is neither.
    """
    if "json" not in kind:
        page = _Page()
        page.feed(text)
        return page.files
    try:
        return [_of_json(entry) for entry in json.loads(text)["files"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unanswered("its answer is no list of files") from None


def _of_json(entry: Mapping[str, Any]) -> _Listed:
    yanked = entry.get("yanked", False)
    return _Listed(
        str(entry["filename"]), str(entry.get("requires-python") or ""), yanked is not False
    )


class _Page(html.parser.HTMLParser):
    """A parser of the links in a page; a file's name is the last part of the path."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_Listed] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and (href := given.get("href")):
            name = unquote(urlsplit(href).path.rpartition("/")[2])
            self.files.append(
                _Listed(name, given.get("data-requires-python") or "", "data-yanked" in given)
            )


def _file(listed: _Listed, package: str) -> File | None:
    """Return a file that can be installed; None for yanked files and those of other packages."""
    if listed.yanked:
        return None
    try:
        if listed.name.endswith(".whl"):
            name, version, _, its_tags = utils.parse_wheel_filename(listed.name)
        else:
            name, version = utils.parse_sdist_filename(listed.name)
            its_tags = frozenset()
    except (utils.InvalidWheelFilename, utils.InvalidSdistFilename, InvalidVersion):
        return None
    is_built = not its_tags and package in WHEELS_ALONE
    return None if name != package or is_built else File(version, its_tags, listed.requires_python)


@functools.cache
def _tags_of(python: str) -> frozenset[tags.Tag]:
    """Return the wheel tags that a CPython of this version accepts on this machine."""
    version = tuple(map(int, python.split(".")[:2]))
    platforms = list(tags.platform_tags())
    interpreter = f"cp{version[0]}{version[1]}"
    of_cpython = tags.cpython_tags(version, platforms=platforms)
    return frozenset([*of_cpython, *tags.compatible_tags(version, interpreter, platforms)])


def _admits(requires_python: str, python: str) -> bool:
    """Return whether some patch release of a Python meets the bounds of a file.

    Invalid bounds admit every Python.
    """
    try:
        bounds = SpecifierSet(requires_python)
    except InvalidSpecifier:
        return True
    minor = ".".join(python.split(".")[:2])
    candidates = [python] if python.count(".") > 1 else [f"{minor}.{patch}" for patch in (0, 99)]
    return any(bounds.contains(candidate) for candidate in candidates)
