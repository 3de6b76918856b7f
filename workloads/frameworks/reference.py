# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = ""                 # no distribution of its own: NumPy is the framework, and its version is the version
# devices = ["cpu"]
#
# [tool.sweep.recipes."<1.20"]
# python = ["3.7", "3.6", "3.8"]
#
# [tool.sweep.recipes."<1.26"]
# python = ["3.9", "3.10", "3.8"]
#
# [tool.sweep.recipes."<2.3"]
# python = ["3.11", "3.12", "3.10"]
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13", "3.10", "3.9", "3.8", "3.7", "3.6"]
# ///
"""NumPy, written out by hand: the yardstick the other frameworks are checked against."""
