"""Policies of other libraries as data: their networks, normalizers and action maps, read without running their files.

It reads files of strangers; environments, training and merging are elsewhere.
"""
