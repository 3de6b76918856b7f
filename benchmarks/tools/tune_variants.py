"""The variants of Ray Tune's grid search, without running them.

`tune_variants.py AXES` reads JSON.
"""

import json
import sys
import time

from ray import tune
from ray.tune.search.variant_generator import generate_variants

space = {name: tune.grid_search(values) for name, values in json.loads(sys.argv[1]).items()}
start = time.process_time()
count = sum(1 for _ in generate_variants(space))
print(json.dumps({"seconds": time.process_time() - start, "count": count}))
