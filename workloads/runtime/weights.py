"""Initial weights from a file that every process maps, so that each is drawn once per node, network and seed.

Drawing the weights of AlexNet takes longer than a step of it. The file holds the parameters one after the other, as
float32. It is written whole or not at all, and synced, so that writing it back does not disturb what is timed next.
The mapping is private: what a framework writes into its weights stays in its own process. The folder is bounded: the
files that were used longest ago are removed.
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
    """What `layers.draw_weights` gives; mapped from a file where this process has a folder for it."""
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
    except OSError as error:  # a full disk, say: each process draws its own
        sys.stderr.write("initial weights are not kept in {}: {}\n".format(folder, error))
        return drawn
    return _mapped(path, network) or drawn


def remove_oldest(folder: str, latest: str, most_bytes: int = MOST_BYTES) -> None:
    """Removes the files used longest ago until `most_bytes` are left; `latest` stays, whatever its size."""
    files = []
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            status = os.stat(path)
        except FileNotFoundError:  # removed meanwhile by another process
            continue
        if path != latest:
            files.append((status.st_mtime, status.st_size, path))
    left = most_bytes - os.path.getsize(latest)
    for _, size, path in sorted(files, reverse=True):
        left -= size
        if left < 0:
            _remove(path)


def _key(network: layers.Network, seed: int) -> str:
    """Digest of all that decides the numbers: network, seed, and the code that draws them."""
    with open(str(layers.__file__), "rb") as code:
        told = repr((network, seed)).encode() + code.read()
    return hashlib.sha256(told).hexdigest()[:16]


def _mapped(path: str, network: layers.Network) -> Optional[Dict[str, np.ndarray]]:
    """Views of the file; None where there is no whole one."""
    shapes = layers.parameter_shapes(network)
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    try:
        if os.path.getsize(path) != sum(sizes) * _NUMBER.itemsize:
            return None
        numbers = np.asarray(np.memmap(path, dtype=_NUMBER, mode="c"))
        _touch(path)
    except OSError:  # there is none, or it was removed meanwhile
        return None
    found: "OrderedDict[str, np.ndarray]" = OrderedDict()
    start = 0
    for (name, shape), size in zip(shapes.items(), sizes):
        found[name] = numbers[start : start + size].reshape(shape)
        start += size
    return found


def _touch(path: str) -> None:
    """Marks a file as just used."""
    try:
        os.utime(path)
    except OSError:  # a folder that cannot be written to: no file is removed from it either
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
    except FileNotFoundError:  # removed meanwhile by another process
        return
