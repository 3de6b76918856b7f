"""The jobs that Hydra's basic sweeper makes of a multirun, without running them.

`hydra_product.py AXES` reads JSON.
"""

import json
import sys
import time

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

axes = json.loads(sys.argv[1])
words = [
    f"+{name}=" + ",".join(f"'{v}'" if isinstance(v, str) else str(v) for v in axes[name])
    for name in axes
]
start = time.process_time()
batches = BasicSweeper.split_arguments(
    OverridesParser.create().parse_overrides(words), max_batch_size=None
)
count = sum(len(batch) for batch in batches)
print(json.dumps({"seconds": time.process_time() - start, "count": count}))
