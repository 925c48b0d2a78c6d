"""Pages: one self-contained HTML file about a run, a curriculum, a comparison or a benchmark, from its files.

A page reads files and never trains, simulates or films.
"""
