"""Benchmarks: the cost of sweep, compared with the alternatives of a user.

Run `python -m benchmarks [GROUP …] [--quick]`.
"""
