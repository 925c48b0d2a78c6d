"""Plots: figures of runs, curricula, benchmarks and terrains, in one style.

They take records and return figures; files are written by pages.
"""
