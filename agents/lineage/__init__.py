"""Lineage of policies: ancestors by the hashes in policy files, copies of earlier ones, policies with one skill less.

    lineage = trace(Path("results/plaid"))  # the tree of parents, with the figures of every file
    forget_skill(Path("results/plaid"), "biped/gaps", Path("without-gaps"))

``search`` finds policy files in folders, ``figures`` reads what a manifest records, ``tree`` connects files with their
parents, ``undo`` writes the files.
"""

from policykd.lazy import lazy_exports

_HOME = {
    "Library": "search",
    "Lineage": "tree",
    "Relative": "tree",
    "copy_policy": "undo",
    "forget_skill": "undo",
    "recorded_figures": "figures",
    "trace": "tree",
}
__getattr__ = lazy_exports(__name__, _HOME)
__all__ = ["Library", "Lineage", "Relative", "copy_policy", "forget_skill", "recorded_figures", "trace"]
