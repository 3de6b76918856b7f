"""Progress as a reader sees it."""

import pytest

from sweep.cli import output
from sweep.cli.display import LineDisplay, LiveDisplay, duration

FAILURE = {
    "trial_name": "torch==1/core/cpu",
    "device": "cpu",
    "status": "crashed",
    "error": "a\nworker killed by SIGSEGV",
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (190, "3 min 10 s"),
        (19200, "5 h 20 min"),
        (187200, "2 d 4 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_pipe_gets_plain_lines_with_the_failure_as_it_happens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LineDisplay("grid") as display:
        display.planned(total=2, done=0, remaining_s=None)
        display.started("cpu")
        display.ended(FAILURE, remaining_s=5.0)
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "grid: 0/2 trials · ETA once a trial has ended"
    assert err[1] == "crashed: torch==1/core/cpu: worker killed by SIGSEGV"
    assert err[-1] == "grid: 1/2 trials · 1 crashed · ETA 5 s"


def test_a_pipe_gets_no_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    with LineDisplay("[bold]grid[/bold]") as display:
        display.planned(total=1, done=1, remaining_s=0.0)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "[bold]grid[/bold]: 1/1 trials" in err


def test_a_terminal_sees_what_runs_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with output.stderr.capture() as captured:
        display = LiveDisplay("grid")
        display.planned(total=4, done=1, remaining_s=90.0)
        display.started("gpu")
        display.detail(
            "torch==1/train", {"epoch": 3, "epochs": 10, "loss": 0.0213456, "eta_s": 250.0}
        )
        output.stderr.print(display)
    text = captured.get()
    assert "1/4" in text
    assert "running 1 on gpu" in text
    assert "ETA 1 min 30 s" in text
    assert "torch==1/train: epoch 3 of 10, loss 0.02135, 4 min 10 s left" in text


def test_a_pipe_hears_how_far_long_trials_are(capsys: pytest.CaptureFixture[str]) -> None:
    display = LineDisplay("grid")
    display.detail("torch==1/train", {"phase": "training"})
    display.planned(total=1, done=0, remaining_s=None)
    assert capsys.readouterr().err == "grid: 0/0 trials · torch==1/train: phase training\n"


@pytest.mark.parametrize(
    "eta", [float("inf"), float("nan"), "soon", None, {"a": [1]}, "x" * 10**6, 10**400]
)
def test_a_workload_may_say_anything_of_itself(eta, capsys: pytest.CaptureFixture[str]) -> None:
    with LineDisplay("grid") as display:
        display.detail("t", {"eta_s": eta, "epoch": eta, "epochs": eta})
        display.planned(total=1, done=0, remaining_s=float("inf"))
        display.planned(total=1, done=1, remaining_s=None)
    told = capsys.readouterr().err
    assert "1/1 trials" in told
    assert "no longer shown" not in told
    assert max(map(len, told.splitlines())) < 500


def test_a_display_that_fails_is_given_up_with_one_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LineDisplay("grid") as display:
        display.ended({"status": "ok"}, remaining_s=None)  # no name: a record of nobody's
        display.ended({"status": "ok"}, remaining_s=None)
    assert capsys.readouterr().err.count("progress is no longer shown") == 1
