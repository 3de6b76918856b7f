"""The workload of the benchmarks, found by its entry point if this folder is on PYTHONPATH."""
