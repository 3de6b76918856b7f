"""Initial weights from a memory-mapped file, drawn once per node, network and seed.

Drawing the weights of AlexNet takes longer than a step of it. The file holds the parameters one
after the other, as float32. It is complete or absent, and synced, so that its write-back does not
disturb later timings. The mapping is private: what a framework writes into its weights stays in its
own process. The folder has a size limit: the files used least recently are removed.
"""

import hashlib
import os
import sys
import threading
from collections import OrderedDict
from typing import Dict, Optional

import numpy as np

from workloads.runtime import folders, layers

MOST_BYTES = 2 * 2**30  # of all files in the folder together

_NUMBER = np.dtype(np.float32)


def initial(network: layers.Network, seed: int) -> Dict[str, np.ndarray]:
    """Return what `layers.draw_weights` returns, mapped from a file if there is a folder for it."""
    folder = folders.weights
    if folder is None:
        return layers.draw_weights(network, seed)
    path = os.path.join(folder, "{}.f32".format(_key(network, seed)))
    found = _mapped(path, network)
    if found is not None:
        return found
    drawn = layers.draw_weights(network, seed)
    try:
        _write(path, drawn)
        remove_oldest(folder, path)
    except OSError as error:
        # The disk may be full: each process then draws its own weights.
        sys.stderr.write("initial weights are not kept in {}: {}\n".format(folder, error))
        return drawn
    return _mapped(path, network) or drawn


def remove_oldest(folder: str, latest: str, most_bytes: int = MOST_BYTES) -> None:
    """Remove the least recently used files until `most_bytes` are left, but never `latest`."""
    files = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            # Another process has removed it meanwhile.
            continue
        if path != latest:
            files.append((status.st_mtime, status.st_size, path))
    left = most_bytes - os.path.getsize(latest)
    for _, size, path in sorted(files, reverse=True):
        left -= size
        if left < 0:
            _remove(path)


def _key(network: layers.Network, seed: int) -> str:
    """Return a digest of all that decides the numbers: network, seed, and the code that draws."""
    with open(str(layers.__file__), "rb") as code:
        told = repr((network, seed)).encode() + code.read()
    return hashlib.sha256(told).hexdigest()[:16]


def _mapped(path: str, network: layers.Network) -> Optional[Dict[str, np.ndarray]]:
    """Return views of the file, or None if there is no complete one."""
    shapes = layers.parameter_shapes(network)
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    try:
        if os.path.getsize(path) != sum(sizes) * _NUMBER.itemsize:
            return None
        numbers = np.asarray(np.memmap(path, dtype=_NUMBER, mode="c"))
        _touch(path)
    except OSError:
        # There is none, or another process has removed it meanwhile.
        return None
    found: "OrderedDict[str, np.ndarray]" = OrderedDict()
    start = 0
    for (name, shape), size in zip(shapes.items(), sizes):
        found[name] = numbers[start : start + size].reshape(shape)
        start += size
    return found


def _touch(path: str) -> None:
    """Mark a file as just used."""
    try:
        os.utime(path)
    except OSError:
        # The folder is read-only: no file is removed from it either.
        return


def _write(path: str, drawn: Dict[str, np.ndarray]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = "{}.{}-{}.tmp".format(path, os.getpid(), threading.get_ident())
    try:
        with open(partial, "wb") as file:
            for array in drawn.values():
                np.ascontiguousarray(array, _NUMBER).tofile(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        # Another process has removed it meanwhile.
        return
