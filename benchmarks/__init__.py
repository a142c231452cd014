"""Benchmarks: how well labels are repaired, and against what. See benchmarks/repair.py."""
