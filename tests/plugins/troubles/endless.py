# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = ""
# module = "json"
# ///
"""A framework whose import never ends."""

import time

print("looking for a license server", flush=True)
time.sleep(3600)
