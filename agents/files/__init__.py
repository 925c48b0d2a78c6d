"""Policy files: a manifest and weights in a folder or a zip; see :mod:`policykd.agents.files.policy_file`.

``policy_file`` saves and loads policies, ``manifest`` describes one, ``container`` reads and writes the bytes.
"""
