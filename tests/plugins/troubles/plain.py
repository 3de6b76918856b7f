# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = ""
# module = "json"
# ///
"""A framework that is there and does nothing; what it holds is the same as long as its host lives."""

import os
import time

THREADS_WHEN_LOADED = os.environ.get("OMP_NUM_THREADS")
IMPORTED_AT = time.time()
