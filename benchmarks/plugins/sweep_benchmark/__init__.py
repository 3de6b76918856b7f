"""The workload of the benchmarks, found through its entry point where this folder is on PYTHONPATH."""
