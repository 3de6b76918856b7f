"""A local Ray on machines and in folders that are not as Ray expects them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

import sweep
from sweep.cluster import startup
from sweep.errors import Unavailable
from sweep.node import obstacles

HOUSE = Path(sweep.__file__).parents[1]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MAPPED = """
import os, sys
sys.path.append({house!r})
from sweep.cluster import Cluster
from sweep.errors import SweepError

def seen(_):
    import sweep, workloads, numpy
    return sweep.__file__, workloads.__file__, numpy.__file__, os.getcwd()

class Trial:
    id = name = "only"
    resources = {{"cpu": 1}}

if __name__ == "__main__":
    before = os.open(".", os.O_PATH)
    try:
        with Cluster(cpus=1, gpus=0) as cluster:
            task = cluster.session.ray.remote(seen)
            print(*cluster.session.ray.get(task.remote(0)))
            assert os.path.samestat(os.stat("."), os.stat(before))
    except SweepError as error:
        print("error:", error.message, file=sys.stderr)
        print("hint:", error.hint, file=sys.stderr)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    path = tmp_path / "code" / "driver.py"
    path.write_text(MAPPED.format(house=str(HOUSE)))
    return path


def driver(
    script: Path, cwd: Path, *before: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The driver with a local Ray, in `cwd`, started through the command `before`."""
    command = [*before, sys.executable, str(script)]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.mark.ray
@pytest.mark.slow
def test_nothing_from_the_working_folder_is_imported_by_trials(
    script: Path, tmp_path: Path
) -> None:
    """A file `sweep.py`, and folders that are called as packages are."""
    cwd = tmp_path / "typed here"
    cwd.mkdir()
    (cwd / "sweep.py").write_text("raise RuntimeError('the wrong sweep')")
    for name in ("workloads", "numpy"):
        (cwd / name).mkdir()
        (cwd / name / "__init__.py").write_text(f"raise RuntimeError('the wrong {name}')")
    ended = driver(script, cwd)
    assert ended.returncode == 0, ended.stderr
    *files, folder = ended.stdout.split()
    assert files[:2] == [str(HOUSE / "sweep/__init__.py"), str(HOUSE / "workloads/__init__.py")]
    assert str(cwd) not in ended.stdout
    assert folder != str(cwd)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("variable", ["PYTHONOPTIMIZE=2", "PYTHONWARNINGS=error", "RAY_USE_TLS=1"])
def test_variables_that_are_meant_for_others_do_not_reach_ray(
    script: Path, tmp_path: Path, variable: str
) -> None:
    ended = driver(script, tmp_path, **dict([variable.split("=")]))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_a_working_folder_that_is_gone_does_no_harm(script: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    shell = ["sh", "-c", 'rmdir ../gone && exec "$@"', "sh"]
    ended = driver(script, tmp_path / "gone", *shell)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_uv_run_sends_no_project_to_the_workers(script: Path, tmp_path: Path) -> None:
    """In a sub-folder of a project, with a file beside it that is larger than what Ray sends."""
    project = tmp_path / "project"
    (project / "below").mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "theirs"\nversion = "1"\nrequires-python = ">=3.11"\n'
    )
    with (project / "large.bin").open("wb") as large:
        large.truncate(700_000_000)
    run = [uv.find_uv_bin(), "run", "--no-sync", "--offline", "--python", sys.executable]
    ended = driver(script, project / "below", *run, VIRTUAL_ENV="")
    assert ended.returncode == 0, ended.stderr
    assert "project" not in ended.stdout


@ROOT
def test_without_loopback_no_ray_is_started(script: Path, tmp_path: Path) -> None:
    ended = driver(script, tmp_path, "unshare", "--net")
    assert ended.returncode == 5
    assert "no Ray can run on this machine: 127.0.0.1 cannot be reached" in ended.stderr
    assert "ip link set lo up" in ended.stderr
    assert "Traceback" not in ended.stderr


@ROOT
@pytest.mark.parametrize("most", [60, 120])
def test_too_few_processes_for_the_user_are_told_before_ray_hangs(most: int) -> None:
    """In a child, for a uid that nobody else has."""
    ask = f"""
import encodings.idna, os, resource
from sweep.cluster import startup
from sweep.errors import Unavailable
resource.setrlimit(resource.RLIMIT_NPROC, ({most}, {most}))
os.setuid(54321)
try:
    startup.require()
except Unavailable as error:
    print(error.exit_code, error.message, error.hint)
"""
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=HOUSE)
    assert f"this user may have {most} processes and threads" in ended.stdout, ended.stderr
    assert ended.stdout.startswith("5 no Ray can run on this machine")
    assert "ulimit -u" in ended.stdout


def test_a_start_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """Ending the daemons is what makes the blocked call return."""
    logs = tmp_path / "session_2026-11-28" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.err").write_text("one\nthe raylet's last words\n")
    ended: list[bool] = []

    def start() -> None:
        while not ended:
            pass
        raise RuntimeError("connection lost")

    with (
        pytest.raises(
            Unavailable, match=r"not up after 0 s\n.*one\n.*the raylet's last words"
        ) as told,
        startup.explained(tmp_path),
        startup.limited(tmp_path, lambda: ended.append(True), limit_s=0.01),
    ):
        start()
    assert told.value.exit_code == 5


def test_whatever_ray_raises_while_it_starts_is_one_error(tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable, match="does not come up: current node timed out"),
        startup.explained(tmp_path),
    ):
        raise Exception("current node\n timed out")  # noqa: TRY002  as Ray does


def test_a_machine_without_obstacles_has_none() -> None:
    assert obstacles.obstacles() == []
