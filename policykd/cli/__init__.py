"""The command line: parse options, call the library, print the outcome.

``main`` is the entry point, ``commands`` holds one module per command, ``options`` the options that several share,
``overrides`` reads ``--set``, ``output`` draws bars. No logic of the library lives here.
"""
