"""Benchmarks: what sweep costs, beside what a user would pick instead. `python -m benchmarks [GROUP …] [--quick]`."""
