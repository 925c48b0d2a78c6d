"""Real data: data sets by name, where they come from, and their preparation into one checked file.

``policykd kd data`` lists them and prepares one. Nothing here downloads, unpickles or executes a file.
"""
