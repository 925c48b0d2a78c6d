"""Figures of the documentation, made from the committed results: every table, and phrases of the text around them.

A table is one function that turns files of ``benchmarks/results`` into rows; a comment in front of it in the page
names it: ``<!-- figures: demo -->``. A phrase is a piece of a sentence that must stand in its page as it is made.
"""
