"""Write `docs/networks.md`: the networks there are, with their layers and parameters, and where each can run.

python docs/networks_table.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sweep import catalog
from workloads import networks
from workloads.runtime import layers

PAGE = Path(__file__).with_name("networks.md")

BEFORE = """\
# Networks
<!-- written by docs/networks_table.py from the files in workloads/networks and workloads/frameworks -->

`network` is a parameter of `core`, `train` and `infer`, `alexnet` where a grid says nothing, and can be an axis:

```yaml
axes: {framework: [torch==2.13.0, chainer==7.8.1], network: [alexnet, mlp], seed: {range: [0, 4]}}
```

Every network takes the crops of DeepPose, (3, 227, 227), and ends in its 28 coordinates. Each is one file,
`workloads/networks/<name>.py`, written in the layers below; [one of your own](plugins.md#a-network) is one file more.
The parity check holds each of them, in every framework and version, to the float64 reference. Initial weights are drawn
alike for all: uniform with variance 1 / fan-in, weights of normalisations 1, biases 0. The last normalisation of each
residual of a ResNet begins with weights of 0.25, which keeps float32 gradients within the tolerance of the check.
"""

LAYERS = """
## Layers
Shapes leave out the batch. `workloads/runtime/layers.py` defines each layer once; the files in `workloads/frameworks` say
it in each framework's own modules.
"""

VERSIONS = """
## Which network runs in which version
A network with a layer that a version lacks is excluded there, with the reason, in `sweep plan`. Other networks and
frameworks, as far as `docs/frameworks.md` says that a version runs at all, have no such limit.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([BEFORE, *_networks(), LAYERS, *_layers(), VERSIONS, *_versions()]) + "\n"


def _networks() -> Iterator[str]:
    yield "| network | parameters | layers with weights | is |"
    yield "|---|---:|---:|---|"
    for entry in _entries():
        network = networks.get(entry.name)
        shapes = layers.parameter_shapes(network)
        parameters = sum(int(np.prod(shape)) for shape in shapes.values())
        weights = sum(name.endswith(".weight") for name in shapes)
        yield f"| `{entry.name}` | {parameters:,} | {weights} | {entry.summary} |"


def _layers() -> Iterator[str]:
    yield "| layer | is | used by |"
    yield "|---|---|---|"
    for name, layer in inspect.getmembers(layers, inspect.isclass):
        if name in ("Network", "OrderedDict") or not issubclass(layer, tuple):
            continue
        summary = (layer.__doc__ or "").partition("\n")[0]
        users = ", ".join(entry.name for entry in _entries() if name in entry.layers)
        yield f"| `{_signature(layer)}` | {summary} | {users} |"


def _signature(layer: Any) -> str:
    given = getattr(layer, "_field_defaults", {})
    words = [f"{name}={given[name]!r}" if name in given else name for name in layer._fields]
    return f"{layer.__name__}({', '.join(words)})"


def _versions() -> Iterator[str]:
    yield "| framework | network | versions | why no others |"
    yield "|---|---|---|---|"
    for name, framework in sorted(catalog.frameworks().items()):
        for entry in _entries():
            limits = {k: v for k, v in framework.layers.items() if k in entry.layers}
            versions = ", ".join(dict.fromkeys(each.versions for each in limits.values()))
            reasons = "; ".join(dict.fromkeys(each.reason for each in limits.values()))
            if limits:
                yield f"| {name} | `{entry.name}` | {versions} | {reasons} |"


def _entries() -> list[catalog.Network]:
    """The networks in the tree, as they follow each other in the alphabet."""
    every = catalog.networks()
    return [every[name] for name in sorted(every) if catalog.WORKLOADS in every[name].path.parents]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
