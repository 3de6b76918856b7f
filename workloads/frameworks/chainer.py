# /// script
# requires-python = ">=3.6"
# dependencies = ["numpy"]
#
# [tool.sweep]
# package = "chainer"
# devices = ["cpu", "gpu"]
#
# [tool.sweep.backends]
# numpy = {devices = ["cpu"], reason = "NumPy is for the CPU; on a GPU it is backend cupy"}
# ideep = {versions = ">=4", devices = ["cpu"], reason = "iDeep came with Chainer 4, for the CPU"}
# cupy = {versions = ">=2", devices = ["gpu"], reason = "CuPy became a package of its own with Chainer 2, for the GPU"}
#
# [tool.sweep.recipes."<2"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {reason = "Chainer 1 carries a CuPy of its own that only builds with a CUDA toolkit of its day"}
#
# [tool.sweep.recipes."<3"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {requires = ["cupy>=1,<2"]}
#
# [tool.sweep.recipes."<4"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.gpu = {requires = ["cupy>=2,<3"]}
#
# [tool.sweep.recipes."<5"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py<2"]}
# variants.gpu = {python = ["3.6"], requires = ["cupy-cuda92>=4,<5"]}
#
# [tool.sweep.recipes."<6"]
# python = ["3.6", "3.7", "3.8", "3.9"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py<2"]}
# variants.gpu = {python = ["3.7", "3.6"], requires = ["cupy-cuda100>=5,<6"]}
#
# [tool.sweep.recipes."<7"]
# python = ["3.6", "3.7"]
# requires = ["numpy<1.20", "setuptools<58", "protobuf<3.21"]
# build = ["setuptools<58"]
# variants.ideep = {python = ["3.6", "3.7"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.7", "3.6"], requires = ["cupy-cuda101>=6,<7"]}
#
# [tool.sweep.recipes."*"]             # imports numpy.distutils
# python = ["3.11", "3.10", "3.9", "3.8", "3.7", "3.6"]
# requires = ["numpy<1.24", "setuptools<70", "protobuf<3.21"]
# build = ["setuptools<81"]
# variants.ideep = {python = ["3.7", "3.6"], requires = ["ideep4py>=2,<3"]}
# variants.gpu = {python = ["3.8", "3.7", "3.6"], requires = ["cupy-cuda102>=7,<8"]}
# ///
"""Chainer 1.19 to 7.8.1."""
