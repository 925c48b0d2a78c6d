"""The command line: parses options, calls the library and prints the outcome.

``main`` is the entry point, ``commands`` has one module per command, ``options`` the shared options, ``overrides``
reads ``--set``, ``output`` draws progress bars. Logic belongs in the library, not here.
"""
