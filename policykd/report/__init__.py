"""Report: what people look at. Figures, the terrain gallery, clips, and one self-contained page per run.

Reads results, policies and logs; nothing but the CLI and the demo imports it.
"""
