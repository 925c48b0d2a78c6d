"""The command line: thin. Each command parses its options, calls the library and prints.

``main`` is the entry point, ``commands`` the options, ``work`` what the commands call (loaded only when one runs, so
that ``--help`` answers at once), ``kd_work``, ``kd_run`` and ``kd_bench`` the same for the group ``kd``, ``progress``
the bars, ``overrides`` the ``--set`` option.
"""
