"""Report: plots, the terrain gallery, clips, and one self-contained page per run.

``pages`` and ``plots`` read results, policies and logs and never simulate; ``video`` runs a policy and films it. Only
the CLI and the demo import this package.
"""
