"""Trouble: goes wrong in the way that parameter `trouble` names, or is well."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from workloads.runtime.refusals import NotComparable, Unsupported

PARAMETERS = {
    "trouble": "none",
    "note": "",  # a file to leave process ids in; part of the command line of whatever is started
    "process": "fork",
    "threads": None,
}

COLUMNS = {"session": {"meaning": "whether the trial leads a session of its own", "per": "trial"}}

STRAY = "import time; time.sleep(3600)"


def run(framework, settings, data, reference, report):
    """Whatever is asked for."""
    note(settings, "trial", os.getpid())
    report({"trouble": settings["trouble"]})
    return TROUBLES[settings["trouble"]](framework, settings)


def well(framework, settings):
    """The least that a workload gives."""
    return {"step_s": [0.01, 0.02], "valid": [True, True]}


def tells(framework, settings):
    """What can be seen from inside."""
    return {
        "host": os.getppid(),
        "imported_at": framework.IMPORTED_AT,
        "threads_when_loaded": framework.THREADS_WHEN_LOADED,
        "folder": sorted(os.listdir(".")),
        "path": sys.path,
        "session": os.getsid(0) == os.getpid(),
        "everything": str(dict(os.environ)),
    }


def allocates(framework, settings):
    """Where the C library takes a large block from: its heap, or a mapping that it gives back at once."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(20 * 2**20))
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0] for line in maps if line.rstrip().endswith("[heap]")]
    parts = [[int(end, 16) for end in each.split("-")] for each in ranges]
    return {"in_heap": any(low <= block < high for low, high in parts)}


def raises(framework, settings):
    """An error of the workload's own."""
    print("it was going so well")
    raise ZeroDivisionError("a step of no length")


def crashes(framework, settings):
    """As a native extension does."""
    print("into the abyss")
    ctypes.string_at(0)


def is_killed(framework, settings):
    """As by an administrator, or by the kernel."""
    os.kill(os.getpid(), signal.SIGKILL)


def aborts(framework, settings):
    """As C++ does for want of memory."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def hangs(framework, settings):
    """With helpers of every kind, in sessions of their own, one of them stopped."""
    leaves(framework, settings)
    subprocess.Popen(["/bin/sh", "-c", "kill -STOP $$", settings["note"]], start_new_session=True)
    time.sleep(3600)


def stops(framework, settings):
    """As by Ctrl-Z."""
    os.kill(os.getpid(), signal.SIGSTOP)


def eats(framework, settings):
    """More memory than it may have."""
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))


def asks_for_too_much(framework, settings):
    """NumPy says it in words of its own."""
    import numpy

    numpy.empty(1 << 60, numpy.uint8)


def fills_the_gpu(framework, settings):
    """As torch says it."""
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")


def exits(framework, settings):
    """Behind Python's back."""
    print("before the end", flush=True)
    os._exit(3)


def quits(framework, settings):
    """As scripts do."""
    sys.exit("I have had enough")


def prints(framework, settings):
    """Megabytes, with a beginning and an end."""
    print("the first line")
    for _ in range(200):
        os.write(1, b"x" * 100000 + b"\n")
    print("the last line")
    raise ValueError("after all that")


def returns_text(framework, settings):
    """No columns."""
    return "fast"


def returns_nonsense(framework, settings):
    """Columns of the wrong type."""
    return {"step_s": "fast", "mine": {"a": [1, None]}}


def returns_objects(framework, settings):
    """What JSON cannot say."""
    return {"step_s": [0.1], "mine": object()}


def returns_others_columns(framework, settings):
    """What is not for a workload to say."""
    return {"step_s": [0.1], "status": "ok", "trial_id": "another", "node": "elsewhere"}


def returns_odd_numbers(framework, settings):
    """Which are what they are."""
    return {"step_s": [float("nan"), float("inf"), 0.0, -1.0]}


def scribbles(framework, settings):
    """On whatever is open."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b'{"event": "outcome", "sta')
        except OSError:
            pass
    os._exit(4)


def leaves(framework, settings):
    """Helpers that outlive it, by double fork and in sessions of their own."""
    command = [sys.executable, "-c", STRAY, settings["note"]]
    for session in (False, True):
        note(settings, "helper", subprocess.Popen(command, start_new_session=session).pid)
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.execv(sys.executable, command)
        os._exit(0)
    return well(framework, settings)


def works(framework, settings):
    """For longer than the kernel's counters need."""
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    return well(framework, settings)


def has_no_backend(framework, settings):
    """As an adapter says it."""
    raise Unsupported("plain 1 knows no convolution")


def computes_something_else(framework, settings):
    """As the parity check says it."""
    raise NotComparable("loss is 2, the reference's 3")


def note(settings, what, number):
    """For the test that looks."""
    if settings["note"]:
        with open(settings["note"], "a") as file:
            file.write(f"{what} {number}\n")


TROUBLES = {"none": well}
TROUBLES.update(
    (name, value) for name, value in list(globals().items()) if callable(value) and name != "run"
)
