"""Labeled states: the record of a rollout, the pool in memory, and the folder on disk with its manifest.

It knows tensors, files and skills, and neither simulates nor trains.
"""
