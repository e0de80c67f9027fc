"""Suites, scores, comparisons: what a system can do, measured through its gateway."""
