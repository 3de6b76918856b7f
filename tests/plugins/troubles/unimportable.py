# /// script
# requires-python = ">=3.6"
# dependencies = []
#
# [tool.sweep]
# package = ""
# module = "json"
# ///
"""A framework whose library is of another machine."""

raise ImportError("libmatrix.so.5: cannot open shared object file")
