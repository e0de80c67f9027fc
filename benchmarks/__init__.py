"""Benchmarks, one file each; ``run`` starts them by name."""
