# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = ""
# module = "json"
# ///
"""A framework that has much to do when it is imported."""

import time

END = time.process_time() + 0.5
while time.process_time() < END:
    pass
