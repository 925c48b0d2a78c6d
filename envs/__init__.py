"""Simulation: robots, terrains, skills, and batched environments with gymnasium and stable-baselines3 faces.

Built up from ``robots``, ``terrains`` and ``engines`` through ``kinematics``, ``observations``, ``tasks`` and ``skills``
to ``batched_env``; ``vector_env``, ``single_env`` and ``sb3_env`` are its faces. Nothing here knows of policies.
"""
