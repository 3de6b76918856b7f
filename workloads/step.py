"""Step: a step of the user's own, from one plain file; `docs/own-step.md` describes the file.

The file is run as Python would run it, from a copy that nothing else writes to. Tracebacks name the
file that the user edits. `SETTINGS` are those of every step, besides the parameters of its file.
"""

import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
from collections import abc
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from workloads.runtime import package, phases
from workloads.runtime.phases import Phase
from workloads.runtime.refusals import Refusal
from workloads.runtime.results import Result
from workloads.settings import COMPUTED, COMPUTED_CHOICES, SAMPLED_LEAST, SAMPLED_STEPS

SETTINGS = {
    "samples": 30,
    "warmup": 5,  # steps before those, after the very first
    "tolerance": 1e-4,  # relative, between results of cells that are compared
    **COMPUTED,
}
CHOICES = COMPUTED_CHOICES
LEAST = SAMPLED_LEAST
STEPS = SAMPLED_STEPS
EXCLUSIVE = True  # other trials on the node would change what is timed

SYNCHRONIZE = "synchronize"
# Names of phases that would clash with columns of seconds that every record has.
TAKEN = frozenset(
    [
        "step",
        "warmup",
        "first_step",
        "device",
        "compile",
        "data",
        "import",
        "wall",
        "waited",
        "user",
        "system",
        "epoch",
    ]
)


class WrongStep(Refusal):
    """A step file is invalid; the message has file and line, and no traceback is shown."""


class Made(NamedTuple):
    """What `setup` returned: the phases in order, and the step's own way to wait for the device."""

    phases: List[Phase]
    synchronize: Optional[Callable[[], Any]]


def run(
    framework: Any,
    settings: Dict[str, Any],
    data: Optional[str],  # noqa: ARG001  a step brings its own data
    reference: Optional[Dict[str, float]],  # noqa: ARG001  results of cells are compared with each other
    report: Callable[[Dict[str, Any]], None],
) -> Dict[str, Any]:
    """Time the step of the file that `settings["step"]` names; return the record's columns."""
    framework.load(settings)
    device = getattr(framework, "step_device", package.step_device)(settings)
    setup = _setup(_executed(**settings["step"]))
    report({"phase": "setup"})
    made = _made(setup, setup(**_arguments(setup, settings, device.name)))
    report({"phase": "timing"})
    result = Result()
    columns = phases.measure(
        made.phases,
        synchronize=_waiting(device.synchronize, made.synchronize),
        samples=settings["samples"],
        warmup=settings["warmup"],
        keep_result=result.keep,
        events=device.events,
    )
    columns.update(framework.facts())
    columns.update(device.facts())
    return dict(columns, result=result.value)


class _Copy(importlib.machinery.SourceFileLoader):
    """Loads the copy of a step; its code names the file that the author edits."""

    def __init__(self, name: str, path: str, shown: str) -> None:
        super().__init__(name, path)
        self._shown = shown

    def get_code(self, fullname: str) -> Any:  # noqa: ARG002  the signature is the base class's
        """Return the code of the file; no bytecode is read or written."""
        return self.source_to_code(self.get_data(self.path), self._shown)


def _executed(file: str, origin: str) -> Any:
    """Return the module of a step file; `origin` is where its author edits it.

    Where that is on this machine, code and tracebacks name it. They show the lines that were run,
    whether the file was edited since or not.
    """
    name = os.path.basename(file)[: -len(".py")]
    name = name if name not in sys.modules else "step_" + name
    shown = origin if os.path.exists(origin) else file
    loader = _Copy(name, file, shown)
    text = loader.get_data(file).decode("utf-8-sig")
    linecache.cache[shown] = (len(text), None, text.splitlines(True), shown)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:
        raise WrongStep("{} is no Python file".format(file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(file))
    loader.exec_module(module)
    return module


def _setup(module: Any) -> Callable[..., Any]:
    setup = getattr(module, "setup", None)
    if not callable(setup):
        raise WrongStep("{} has no function setup".format(module.__file__))
    return setup


def _arguments(setup: Callable[..., Any], settings: Dict[str, Any], device: str) -> Dict[str, Any]:
    """Return the settings that `setup` takes; `device` is in the framework's own words."""
    known = dict(settings, device=device)
    named = inspect.signature(setup).parameters.values()
    missing = [
        each.name
        for each in named
        if each.name not in known and each.default is inspect.Parameter.empty
    ]
    if missing:
        raise WrongStep("{}: there is no setting {!r}".format(_place(setup), missing[0]))
    return {each.name: known[each.name] for each in named if each.name in known}


def _made(setup: Callable[..., Any], returned: Any) -> Made:
    """Return the result of `setup` as phases; WrongStep if it is not a step."""
    if callable(returned):
        return Made(
            [Phase("step", returned, _takes_previous(setup, "step", returned, is_first=True))], None
        )
    if not isinstance(returned, abc.Mapping):
        message = "{} returned {}: return a function, or a dict of phases by name"
        raise WrongStep(message.format(_place(setup), _told(returned)))
    named = [(name, call) for name, call in returned.items() if name != SYNCHRONIZE]
    if not named:
        raise WrongStep("{} returned no phases".format(_place(setup)))
    for name, call in returned.items():
        _check_phase(setup, name, call, is_alone=len(named) == 1)
    found = [
        Phase(name, call, _takes_previous(setup, name, call, is_first=place == 0))
        for place, (name, call) in enumerate(named)
    ]
    return Made(found, returned.get(SYNCHRONIZE))


def _check_phase(setup: Callable[..., Any], name: Any, call: Any, is_alone: bool) -> None:
    if not callable(call):
        raise WrongStep(
            "{}: phase {!r} is {} and no function".format(_place(setup), name, _told(call))
        )
    if not isinstance(name, str) or not name.isidentifier():
        raise WrongStep(
            "{}: {!r} is no name for a phase: use letters, digits and _".format(_place(setup), name)
        )
    if name in TAKEN and not is_alone:
        raise WrongStep(
            "{}: {}_s is a column of every record: call the phase otherwise".format(
                _place(setup), name
            )
        )


def _takes_previous(
    setup: Callable[..., Any], name: str, call: Callable[..., Any], is_first: bool
) -> bool:
    """Return whether a phase is called with the previous one's result."""
    wanted = _required(call)
    if wanted > (0 if is_first else 1):
        most = (
            "nothing, as the first one"
            if is_first
            else "one argument at most, what the one before returned"
        )
        message = "{}: phase {!r} takes {} arguments: it is called with {}"
        raise WrongStep(message.format(_place(setup), name, wanted, most))
    return wanted == 1


def _required(call: Callable[..., Any]) -> int:
    """Return how many arguments a function requires; 0 for one without a signature."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        each.kind in kinds and each.default is inspect.Parameter.empty for each in parameters
    )


def _waiting(
    of_device: Callable[[Any], None], own: Optional[Callable[[], Any]]
) -> Callable[[Any], None]:
    """Return a function that waits for the device and a value, by the framework and by the step."""
    if own is None:
        return of_device
    wait = own

    def both(value: Any) -> None:
        of_device(value)
        wait()

    return both


def _place(function: Any) -> str:
    """Return file and line of a function."""
    code = getattr(function, "__code__", None)
    if code is None:
        return "setup"
    return "{}, line {}: setup".format(code.co_filename, code.co_firstlineno)


def _told(value: Any) -> str:
    return "nothing" if value is None else "a value of type {}".format(type(value).__name__)
