"""Plots: figures of runs, curricula, benchmarks and terrains, in one style."""
