"""Records of the losses, one file per loss; files are found by name, see :data:`policykd.kd.registry.LOSSES`.

A record is plain data and loads no torch, so that losses can be listed and explained at once.
"""
