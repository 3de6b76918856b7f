"""Probe: the interpreter, cores, threads and libraries of a trial, read from its own process."""

import ctypes
import json
import os
import platform
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

# Libraries with thread pools: patterns of file names, and functions that return the number.
_THREADS = (
    (re.compile("openblas"),
     ("openblas_get_num_threads", "openblas_get_num_threads64_",
      "scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads")),
    (re.compile("mkl_rt"), ("MKL_Get_Max_Threads",)),
    (re.compile("libblis"), ("bli_thread_get_num_threads",)),
    (re.compile("gomp|iomp5|libomp"), ("omp_get_max_threads",)),
)  # fmt: skip
_OTHER_BLAS = re.compile("mkl_rt|mkl_core|libblis|libcblas|libatlas|libblas|libarmpl|libnvpl_blas")
_OPENBLAS_CONFIG = ("openblas_get_config", "openblas_get_config64_", "scipy_openblas_get_config64_",
                    "scipy_openblas_get_config")  # fmt: skip
# Variables that records leave out: the mark by which processes are found, and one that Python sets.
_NOT_TOLD = ("SWEEP_PROCESS", "LC_CTYPE")
_ONLY_IF_LOADED = getattr(os, "RTLD_NOLOAD", 4)


def facts() -> Dict[str, Any]:
    """Return the columns that every workload has: interpreter, cores, threads, BLAS, memory."""
    libraries = loaded_libraries()
    found = {
        "python": platform.python_version(),
        "cores": cores(),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "numpy": str(getattr(sys.modules.get("numpy"), "__version__", "")),
        "blas": blas(libraries),
        "peak_rss_bytes": peak_rss_bytes(),
        "variables": json.dumps(
            {name: os.environ[name] for name in sorted(os.environ) if name not in _NOT_TOLD}
        ),
    }  # type: Dict[str, Any]
    counted = [threads for _, threads in thread_pools(libraries)]
    if counted:
        found["threads"] = max(counted)
    return found


def cores() -> List[int]:
    """Return the cores on which any thread of this process may run."""
    allowed = set(os.sched_getaffinity(0))
    for thread in os.listdir("/proc/self/task"):
        try:
            allowed |= os.sched_getaffinity(int(thread))
        except ProcessLookupError:
            # The thread has ended meanwhile.
            continue
    return sorted(allowed)


def loaded_libraries() -> List[str]:
    """Return the paths of the shared libraries in this process, as the kernel maps them."""
    with open("/proc/self/maps") as maps:
        fields = [line.split(None, 5) for line in maps if ".so" in line]
    return sorted({line[5].strip() for line in fields if len(line) > 5 and line[5].startswith("/")})


def thread_pools(libraries: List[str]) -> List[Tuple[str, int]]:
    """Return `(file name, threads)` for each loaded library with a thread pool."""
    pools = []
    for path in libraries:
        name = os.path.basename(path)
        for pattern, functions in _THREADS:
            threads = _asked(path, functions, ctypes.c_int) if pattern.search(name) else None
            if threads is not None:
                pools.append((name, int(threads)))
    return pools


def blas(libraries: List[str]) -> str:
    """Return the loaded BLAS libraries, each by its own configuration text if it has one."""
    named = set()
    for path in libraries:
        name = os.path.basename(path)
        if "openblas" in name:
            config = _asked(path, _OPENBLAS_CONFIG, ctypes.c_char_p)
            named.add(config.decode("utf-8", "replace").strip() if config else name)
        elif _OTHER_BLAS.search(name):
            named.add(name)
    return "; ".join(sorted(named))


def peak_rss_bytes() -> Optional[int]:
    """Return the peak resident memory of this process since it was forked.

    It does not include the memory of the host at its own peak.
    """
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _asked(path: str, functions: Tuple[str, ...], result: Any) -> Any:
    """Return the result of the first of these functions that a loaded library has, or None."""
    try:
        library = ctypes.CDLL(path, mode=_ONLY_IF_LOADED)
    except OSError:
        # The file is mapped, but not as a library.
        return None
    for name in functions:
        function = getattr(library, name, None)
        if function is not None:
            function.restype = result
            return function()
    return None
