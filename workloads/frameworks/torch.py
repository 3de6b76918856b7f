# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "torch"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# native = {devices = ["cpu"], reason = "oneDNN is for the CPU"}
# onednn = {versions = ">=1.0", devices = ["cpu"], reason = "oneDNN came with torch 1.0, for the CPU"}
# script = {versions = ">=1.0", reason = "torch.jit came with torch 1.0"}
# inductor = {versions = ">=2.0", reason = "torch.compile came with torch 2.0"}
#
# [tool.sweep.recipes."<1.0"]
# python = ["3.6"]
# requires = ["numpy<1.20", "pyyaml<6"]
# hint = "torch before 1.0 is on no package index: name a wheel with environments: {torch==VERSION: {wheel: PATH-OR-URL}}"
#
# [tool.sweep.recipes."<1.4"]
# python = ["3.7", "3.6"]
# requires = ["numpy<1.22"]
#
# [tool.sweep.recipes."<1.8"]
# python = ["3.7", "3.8", "3.6"]
# requires = ["numpy<1.22"]
#
# [tool.sweep.recipes."<1.11"]
# python = ["3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24"]
#
# [tool.sweep.recipes."<1.13"]
# python = ["3.10", "3.9", "3.8", "3.7"]
# requires = ["numpy<1.24"]
#
# [tool.sweep.recipes."<2.0"]
# python = ["3.10", "3.11", "3.9", "3.8", "3.7"]
# requires = ["numpy<1.27"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.3"]          # built against NumPy 1
# python = ["3.11", "3.10", "3.9", "3.8"]
# requires = ["numpy<2"]
# cpu_build = true
#
# [tool.sweep.recipes."<2.5"]
# python = ["3.11", "3.12", "3.10", "3.9", "3.8"]
# cpu_build = true
#
# [tool.sweep.recipes."*"]
# python = ["3.11", "3.12", "3.13", "3.10"]
# cpu_build = true                     # the index's own builds pull CUDA libraries: a CPU build is looked for first
# ///
"""PyTorch 0.1.10 and later."""
