"""Anchors of the site's headings, which are those of GitHub, so that one link works in both."""

from __future__ import annotations

import re


def github_slug(text: str, separator: str = "-") -> str:
    """Return the anchor of a heading; ``separator`` is what Markdown's extension passes, always a hyphen."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)
