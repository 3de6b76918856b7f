"""What SECURITY.md promises, sentence by sentence."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from made_up import keep, record
from test_environments import cache, tiny, wheels  # noqa: F401  fixtures
from test_terminals import watched

from sweep import catalog, grid, process
from sweep.cli import output
from sweep.credentials import redacted, redacted_url, remember
from sweep.datasets import datasets
from sweep.environments import EnvironmentFailed, indexes, prepare, resolver, specify
from sweep.errors import SweepError, Unavailable
from sweep.node import hosts, machine, slots
from sweep.records.facts import RunFacts
from sweep.records.results import Results
from sweep.records.storage import Storage

HOUSE = Path(__file__).resolve().parent.parent
SECRET = "s3cr3t/not-for-you"
URL = "https://me:s3cr3t@host.example/simple?token=s3cr3t&page=2"


# code that could run what it reads

_FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
}
_FORBIDDEN_CALLS = {
    *(
        "eval",
        "exec",
        "os.system",
        "os.popen",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "torch.load",
    ),
    *("pandas.read_pickle", "np.loads", "xml.etree.ElementTree.parse"),
}


def dangers(code: str) -> Iterator[str]:
    """What in a module would run what it reads, or hand a line to a shell."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ({alias.name for alias in node.names} & _FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in _FORBIDDEN_MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            if (name := ast.unparse(node.func)) in _FORBIDDEN_CALLS:
                yield name
            yield from (
                f"{word.arg}={ast.unparse(word.value)}"
                for word in node.keywords
                if word.arg in ("shell", "allow_pickle")
            )


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from marshal import loads", "import os\nos.system('ls')", "eval(x)", "yaml.load(x)",
     "np.load(f, allow_pickle=True)", "subprocess.run(x, shell=True)"],
)  # fmt: skip
def test_the_search_for_dangers_finds_them(code: str) -> None:
    assert list(dangers(code))


def test_nothing_unpickles_evaluates_or_asks_a_shell() -> None:
    found = {
        str(path.relative_to(HOUSE)): danger
        for folder in ("sweep", "workloads")
        for path in (HOUSE / folder).rglob("*.py")
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert found == {}


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    results = keep(tmp_path / "run", [record()])
    results.storage.write("run.yaml", b"!!python/object/apply:os.system ['touch /nowhere']")
    with pytest.raises(SweepError, match=r"run\.yaml"):
        results.facts()
    with pytest.raises(SweepError, match="tag"):
        grid.parse("axes: {framework: !!python/object/apply:os.system ['touch /nowhere']}")


# names that are no paths


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../b", ".hidden", "-rf", "a\\tb"])
def test_no_name_of_a_grid_leads_out_of_the_results(name: str) -> None:
    with pytest.raises(SweepError, match="no name for a folder"):
        grid.parse(f'name: "{name}"\naxes: {{framework: [reference]}}')


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../b", ".hidden", "a\0b", ""])
def test_no_id_in_a_record_leads_out_of_its_run(tmp_path: Path, name: str) -> None:
    with Results(tmp_path / "run").open(RunFacts(name="r", grid="")) as results:
        with pytest.raises(ValueError, match="cannot name a file"):
            results.append(record(trial_id=name) | {"log": "text"})
        with pytest.raises(ValueError, match="cannot name a file"):
            results.keep_environment(name, ["numpy==1"])
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to another user")


@as_root
def test_another_users_folder_of_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"sweep-slots-{os.getuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    with (
        pytest.raises(Unavailable, match="belongs to another user"),
        slots.lease(1, exclusive=False),
    ):
        pass


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_of_locks_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"sweep-slots-{os.getuid()}"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(Unavailable, match="other users can write"), slots.lease(1, exclusive=False):
        pass
    folder.chmod(0o700)
    with slots.lease(1, exclusive=False):
        assert list(folder.iterdir())


def test_links_are_followed_neither_to_locks_nor_to_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target, elsewhere = tmp_path / "precious", tmp_path / "elsewhere"
    target.write_text("kept")
    elsewhere.mkdir(mode=0o700)
    folder = tmp_path / f"sweep-slots-{os.getuid()}"
    folder.symlink_to(elsewhere)
    with pytest.raises(Unavailable, match="no folder"), slots.lease(1, exclusive=False):
        pass
    folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / "turnstile").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"), slots.lease(1, exclusive=False):
        pass
    assert target.read_text() == "kept"


@as_root
def test_what_another_user_left_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    mine, foreign, link = tmp_path / "mine.lock", tmp_path / "foreign.lock", tmp_path / "link.lock"
    mine.touch()
    foreign.touch()
    link.symlink_to(mine)
    os.chown(foreign, NOBODY, NOBODY)
    assert list(process.abandoned([foreign, link, mine])) == [mine]


# what is fetched and installed


@pytest.mark.parametrize(
    "override",
    [
        {"wheel": "http://mirror.example/torch-1.0-py3-none-any.whl"},
        {"index_url": "http://mirror.example/simple"},
        {"find_links": ["https://a.example/wheels", "http://b.example/wheels"]},
        {"requires": ["six @ http://mirror.example/six-1.0-py3-none-any.whl"]},
        {"requires": ["six @ git+http://mirror.example/six"]},
        {"requires": ["six@http://mirror.example/six-1.0-py3-none-any.whl"]},
        {
            "requires": [
                "six @ http://mirror.example/six-1.0-py3-none-any.whl ; python_version > '3'"
            ]
        },
        {"requires": [f"six @ http://mirror.example/six-1.0-py3-none-any.whl#sha256={'a' * 63}"]},
        {"requires": [f"six @ http://mirror.example/six-1.0.tar.gz#sha256={'a' * 64}"]},
        {"requires": ["six @ HTTP:mirror.example/six-1.0-py3-none-any.whl"]},
        {"requires": ["six @ ftp://mirror.example/six-1.0-py3-none-any.whl"]},
        {"build": ["six@http://mirror.example/six-1.0-py3-none-any.whl"]},
        {"index_url": "http://mirror.example/simple#sha256=aa"},
        {"index_url": f"http://mirror.example/simple#sha256={'a' * 64}"},
        {"index_url": "http:mirror.example/simple"},
        {"index_url": "http://localhost@mirror.example/simple"},
        {"find_links": f"http://mirror.example/six.whl#sha256={'a' * 64}"},
        {"wheel": "http://mirror.example/torch-2.13.0-py3-none-any.whl"},
    ],
)
def test_code_over_plain_http_is_refused(override: dict[str, object]) -> None:
    with pytest.raises(SweepError, match=r"mirror\.example|b\.example") as refused:
        specify(catalog.get_framework("torch"), "2.13.0", override=override)
    assert "https://" in refused.value.hint


def test_code_over_plain_http_is_taken_with_its_hash_or_from_this_machine() -> None:
    wheel = f"torch-2.13.0-cp311-cp311-linux_x86_64.whl#sha256={'0' * 64}"
    spec = specify(
        catalog.get_framework("torch"),
        "2.13.0",
        override={"wheel": f"http://mirror.example/{wheel}"},
    )
    assert any(wheel in requirement for requirement in spec.requires)
    assert spec.python == ("3.11",)
    specify(
        catalog.get_framework("torch"),
        "2.13.0",
        override={"index_url": "http://localhost:3141/root"},
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"requires": ["--index-url=http://mirror.example/simple"]}, "no requirement"),
        ({"requires": ["--index-url http://mirror.example/simple"]}, "no requirement"),
        ({"requires": [" -fhttp://mirror.example/simple"]}, "no requirement"),
        ({"requires": ["http://mirror.example/six.whl"]}, "no requirement"),
        ({"requires": ["six<2\n--index-url=http://mirror.example/simple"]}, "control characters"),
        ({"requires": ["six\t@\thttp://mirror.example/six.whl"]}, "control characters"),
        ({"requires": ["six @ https://host.example/six.whl\\"]}, "no plain URL"),
        ({"requires": ["six @ ${PLACE}/six.whl"]}, "no plain URL"),
        ({"build": ["-rother.txt"]}, "no requirement"),
        ({"python": ["--mirror=http://mirror.example"]}, "no version of Python"),
        ({"python": ["--install-dir=/any/path"]}, "no version of Python"),
        ({"python": ["3.11", "3.x"]}, "no version of Python"),
        ({"torch_backend": "--index-url=http://mirror.example"}, "no torch_backend"),
        (
            {"index_url": "https://host.example/simple http://mirror.example/simple"},
            "not one place",
        ),
        ({"find_links": ["https://host.example/a,http://mirror.example/b"]}, "not one place"),
        ({"find_links": ["/wheels,http:/mirror.example/b"]}, "not one place"),
        ({"index_url": "http://mirror.example\\@localhost/simple"}, "no plain URL"),
        ({"wheel": "https://host.example/torch-2.13.0-py3-none-any.whl --pre"}, "not one place"),
        ({"wheel": ["torch.whl", "http://mirror.example/x"]}, "quotes"),
    ],
)
def test_no_text_of_a_grid_is_an_option_or_a_second_place_for_uv(
    override: dict[str, object], message: str
) -> None:
    with pytest.raises(SweepError) as refused:
        specify(catalog.get_framework("torch"), "2.13.0", override=override)
    assert message in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(
    "lines", ["# python: 3.11.1\n--index-url=http://h/x\n", "# python: --mirror=http://h\nsix==1\n"]
)
def test_a_lock_says_nothing_but_versions_and_requirements(tmp_path: Path, lines: str) -> None:
    lock = tmp_path / "torch.lock"
    lock.write_text(lines)
    with pytest.raises(SweepError, match=r"no requirement|no version of Python"):
        specify(catalog.get_framework("torch"), "2.13.0", override={"lock": str(lock)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PIP_INDEX_URL", "http://mirror.example/simple"),
        ("PIP_EXTRA_INDEX_URL", "https://host.example/simple http://mirror.example/simple"),
        ("PIP_FIND_LINKS", "http://mirror.example/wheels"),
        ("UV_INDEX_URL", "http://mirror.example/simple"),
        ("UV_DEFAULT_INDEX", "http://mirror.example/simple"),
        ("UV_INDEX", "corporate=http://mirror.example/simple"),
        ("UV_FIND_LINKS", "/wheels,http://mirror.example/wheels"),
        ("UV_PYTHON_INSTALL_MIRROR", "http://mirror.example/pythons"),
    ],
)
def test_a_configured_index_over_plain_http_is_not_asked(
    tiny,  # noqa: F811
    monkeypatch,
    name: str,
    value: str,
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentFailed, match=r"http://mirror\.example/.*could be changed"):
        prepare(specify(tiny, "1.0"))
    assert "mirror.example" in resolver.refusal(indexes.configured())


def test_an_index_over_plain_http_is_asked_where_the_user_trusts_its_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.example:8080/simple")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "mirror.example")
    assert indexes.configured().unprotected == []
    monkeypatch.setenv("PIP_TRUSTED_HOST", "mirror.example:8080")
    assert indexes.configured().unprotected == []
    monkeypatch.setenv("PIP_TRUSTED_HOST", "other.example")
    assert len(indexes.configured().unprotected) == 1


def test_a_wheel_that_is_not_the_one_of_its_hash_is_not_installed(tiny, wheels) -> None:  # noqa: F811
    wheel = next(wheels.glob("tiny-*.whl"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    good = specify(tiny, "1.0", override={"wheel": f"{wheel}#sha256={digest}"})
    bad = specify(tiny, "1.0", override={"wheel": f"{wheel}#sha256={digest[::-1]}"})
    assert prepare(good).framework == "tiny==1.0"
    with pytest.raises(EnvironmentFailed) as failed:
        prepare(bad)
    assert "Hash mismatch" in failed.value.log_tail + failed.value.message
    with pytest.raises(SweepError, match="no hash"):
        specify(tiny, "1.0", override={"wheel": f"{wheel}#sha256=12"})


def test_archives_are_asked_for_over_https_first() -> None:
    mirrors = [
        archive.mirrors
        for dataset in datasets().values()
        if (archive := getattr(dataset, "archive", None))
    ]
    assert mirrors
    assert all(each[0].startswith("https://") for each in mirrors)


# credentials


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (URL, "https://***@host.example/simple?token=***&page=2"),
        ("git+ssh://me:p@ss@host/x failed", "git+ssh://***@host/x failed"),
        ("s3://KEY:SECRET@bucket/x?region=eu", "s3://***@bucket/x?region=eu"),
        ("see https://host/a, or write to me@host", "see https://host/a, or write to me@host"),
        (r'{"url":"https:\/\/me:pw@host\/x"}', r'{"url":"https:\/\/***@host\/x"}'),
        (
            "https://h/x?auth=a&passwd=b&pwd=c&author=me",
            "https://h/x?auth=***&passwd=***&pwd=***&author=me",
        ),
        (
            "https://h/x?hmac=a&sas=b&jwt=c&access_code=d",
            "https://h/x?hmac=***&sas=***&jwt=***&access_code=***",
        ),
        ("https://h/x#X-Amz-Signature=a;page=2", "https://h/x#X-Amz-Signature=***;page=2"),
    ],
)
def test_credentials_in_urls_are_blotted_out_and_nothing_else(text: str, kept: str) -> None:
    assert redacted(text) == kept


@pytest.mark.parametrize(
    "part", ["a", "://", "?a", "://a", "?key", "x@y", "?key=", "://a@", "&token"]
)
@pytest.mark.timeout(60)  # a search whose time grows with the square of the length takes an hour
def test_a_long_word_is_searched_for_credentials_once(part: str) -> None:
    text = part * (1_000_000 // len(part))
    assert redacted(f"{text} https://me:pw@host") == f"{redacted(text)} https://***@host"
    assert "me:pw" not in redacted_url(f"{text}/ https://me:pw@host")


@pytest.mark.parametrize(
    "written",
    [
        "'https://me:s3cr3t ''word''@host.example/simple'",
        '"https://me:s3cr3t \\"word\\"@host.example/simple"',
        '"https://me:s3cr3t\\\n        word@host.example/simple"',
        '"https://me:s3cr3t\\x40host.example/simple"',
        ">-\n      https://me:s3cr3t\n      word@host.example/simple",
    ],
)
def test_credentials_written_in_ways_that_yaml_allows_are_not_kept(
    written: str, tmp_path: Path
) -> None:
    text = f"name: r\nenvironments:\n  torch==2.13.0:\n    index_url: {written}\n"
    keep(tmp_path / "run", [record()], grid=text)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"host.example/simple" in kept
    assert b"s3cr3t" not in kept
    assert "***@host.example/simple" in Results(tmp_path / "run").facts().grid


def test_credentials_of_a_known_url_are_found_again_in_what_a_tool_says_of_it() -> None:
    tool_says = 'cannot reach host.example as me with pa\'ss "w0rd"'
    assert "w0rd" in redacted(tool_says)
    remember('https://me:pa\'ss "w0rd"@host.example/simple')
    assert "w0rd" not in redacted(tool_says)
    assert "host.example" in redacted(tool_says)


def test_a_token_in_the_path_of_an_index_is_neither_kept_nor_shown(tmp_path: Path) -> None:
    token, digest = "q7Zk2mVt9XbN4wLr", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
    index, wheel = (
        f"https://host.example/{token}/team/simple/",
        f"https://host.example/{digest}/x.whl",
    )
    spec = specify(
        catalog.get_framework("torch"), "2.13.0", override={"index_url": index, "find_links": wheel}
    )
    assert token in spec.index_url  # uv is told
    keep(
        tmp_path / "run",
        [record(error=f"no answer from {index}")],
        grid=f"environments: {{torch: {{index_url: '{index}'}}}}\n",
    )
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert token.encode() not in kept
    assert token not in redacted(f"Failed to fetch `{index}torch/`")
    assert token not in "".join(indexes.configured(index).places)
    assert digest in redacted(wheel)


def test_no_credentials_are_kept_with_a_run(tmp_path: Path) -> None:
    text = f"name: r\nenvironments: {{torch==2.13.0: {{index_url: '{URL}'}}}}\n"
    failed = record(status="env_failed", error=f"cannot fetch {URL}") | {"log": f"tried {URL}\n"}
    keep(tmp_path / "run", [failed], grid=text, overrides=[f"data={URL}"])
    kept = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    kept += json.dumps(Results(tmp_path / "run").records().to_pylist(), default=str).encode()
    assert b"host.example" in kept
    assert b"s3cr3t" not in kept


def test_no_credentials_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(URL)
    output.warn(URL)
    output.show_error(SweepError(f"no answer from {URL}", f"try {URL}"))
    with pytest.raises(SweepError) as error:
        Storage("nowhere://me:s3cr3t@bucket/x")
    output.show_error(error.value)
    shown = capsys.readouterr().err
    assert shown.count("host.example") == 4
    assert "s3cr3t" not in shown


def test_an_index_with_a_password_shows_it_to_nobody_when_it_fails(
    tiny,  # noqa: F811
    cache,  # noqa: F811
    monkeypatch,
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    spec = specify(tiny, "1.0", override={"index_url": "http://me:s3cr3t@127.0.0.1:9/simple"})
    with pytest.raises(EnvironmentFailed) as failed:
        prepare(spec, run_id="r")
    told = [str(failed.value), failed.value.hint, failed.value.log_tail, repr(spec)]
    told += [path.read_text() for path in cache.glob(".*.json")]
    assert "s3cr3t" not in "".join(told)
    assert "127.0.0.1" in failed.value.log_tail
    assert "s3cr3t" not in "".join(
        indexes.configured("https://me:s3cr3t@host.example/simple").places
    )


# the user's variables


def test_no_variable_of_the_users_reaches_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "PIP_INDEX_URL",
        "LD_PRELOAD",
        "PYTHONPATH",
        "RAY_AUTH_TOKEN",
    )
    for name in names:
        monkeypatch.setenv(name, SECRET)
    ended = process.run(
        [sys.executable, "-c", "import os; print(dict(os.environ))"], env=hosts.variables(2)
    )
    assert "OMP_NUM_THREADS" in ended.stdout
    assert SECRET not in ended.stdout
    machine.facts_json.cache_clear()
    assert SECRET not in machine.facts_json()


# the terminal


STEERING = r"""
from sweep.cli import output
output.emit("a\x1b]0;title\x07b\x9b2J\tc\n")
output.say("\x1b[2Jd")
"""


def test_a_log_cannot_steer_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "steering.py").write_text(STEERING)
    told = watched(f'"{sys.executable}" steering.py', tmp_path, TERM="dumb")
    assert told.decode().splitlines() == ["a]0;titleb2J\tc", "[2Jd"]


# Ray


LISTENING = """
import json, psutil, time, urllib.error, urllib.request
from sweep.cluster import Cluster

def answer(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception as error:
        return type(error).__name__

with Cluster(cpus=1) as cluster:
    time.sleep(5)  # agents start after Ray says that it runs
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            connections = [c for c in child.net_connections("inet") if c.status == "LISTEN"]
            answers = [answer(c.laddr.port, path) for c in connections for path in ("/", "/metrics", "/api/version")]
            found.append([" ".join(child.cmdline()), [c.laddr.ip for c in connections], answers])
        except psutil.NoSuchProcess:
            continue  # a helper of Ray's that ends just now
    folder = cluster.session._folder
    names = {path.name for path in (folder / "r").iterdir()}
    modes = [folder.stat().st_mode & 0o777, len(names)]
print(json.dumps([found, modes]))
"""


@pytest.fixture(scope="module")
def a_ray_of_our_own() -> tuple[list[tuple[str, list[str], list[int | str]]], list[int]]:
    """In a process of its own: where Ray listens is settled when it is imported first."""
    command = [sys.executable, "-c", LISTENING]
    ended = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=120, umask=0)
    assert ended.returncode == 0, ended.stderr
    found, modes = json.loads(ended.stdout)
    return found, modes


@pytest.mark.slow
@pytest.mark.ray
def test_a_ray_of_our_own_listens_on_loopback_alone(a_ray_of_our_own) -> None:
    found, _ = a_ray_of_our_own
    listening = {address for _, addresses, _ in found for address in addresses}
    assert listening
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    dashboards = [
        command for command, *_ in found if "dashboard.py" in command
    ]  # it counts usage, and shows nothing
    assert all(
        "--disable-frontend" in command and "JobHead" not in command for command in dashboards
    )


@pytest.mark.slow
@pytest.mark.ray
def test_a_ray_of_our_own_serves_no_page_to_those_without_its_token(a_ray_of_our_own) -> None:
    found, _ = a_ray_of_our_own
    answers = {answer for *_, answers in found for answer in answers}
    assert 401 in answers
    assert answers <= {
        401,
        "BadStatusLine",
        "RemoteDisconnected",
        "ConnectionResetError",
    }  # or no HTTP at all


@pytest.mark.slow
@pytest.mark.ray
def test_the_folder_of_a_ray_of_our_own_is_closed_to_others(a_ray_of_our_own) -> None:
    _, (mode, files) = a_ray_of_our_own
    assert mode == 0o700
    assert files


def test_the_clusters_we_describe_keep_their_dashboard_on_loopback_and_ask_for_a_token() -> None:
    for path in HOUSE.glob("cluster*.yaml"):
        commands = yaml.safe_load(path.read_text(encoding="utf-8"))["head_start_ray_commands"]
        starts = [command for command in commands if "ray start" in command]
        assert starts, path
        assert all("--dashboard-host=127.0.0.1" in command for command in starts), path
        assert all("RAY_AUTH_MODE=token" in command for command in starts), path
        assert "0.0.0.0" not in path.read_text(encoding="utf-8").replace("0.0.0.0/0", ""), path


# the page itself


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = re.findall(
        r"^\|.*`(test_\w+)` \|$", (HOUSE / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    tests = {
        node.name
        for path in (HOUSE / "tests").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(promises) > 10
    assert set(promises) <= tests
