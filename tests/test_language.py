"""The house's words: plain American English in code, docs and pages; CONTRIBUTING.md explains the rules."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANNED = {
    r"\banew\b": "again",
    r"\blikewise\b": "the same way, or repeat the noun",
    r"\bbeside\b": "next to, with, in addition to",
    r"\blie(s)? (in|at|on|under|between|within|outside|beyond|behind)\b": "is",
    r"\bin place of\b": "instead of",
    r"\bfor ever\b": "forever",
    r"\bso many\b": "at most `name`",
    r"\bwho watches\b": "progress reporter",
    r"\b(whoever|nobody|somebody)\b": "name the code or the person",
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b|less\b)[a-z]": "is not a",
    r"\b(optim|normal|initial|general|minim|maxim|standard|vector|regular)is(e|ed|er|es|ing|ation)\b": "-ize",
    r"\b(colour|behaviour|neighbour|centre|labelled|labelling|catalogue|licence|grey|metre)s?\b": "American spelling",
}
KEPT = {
    "agents/policy_file.py", "agents/files/policy_file.py",  # tensor names in files of formats 1 and 2
}  # fmt: skip
STORED = re.compile(r'policykd-labelled-states|"labelled draws"|"normalised"')
"""Names in stored files and keys of seeds, which keep the spelling of version 0.1.0."""


@cache
def texts():
    """Return the name and the text of every file, without the stored names."""
    found = [ROOT / "README.md"]
    for folder in ("policykd", "envs", "agents", "docs", "examples", "benchmarks", "recipes"):
        for suffix in ("py", "md", "html", "yaml"):
            found += sorted((ROOT / folder).rglob(f"*.{suffix}"))
    names = {str(path.relative_to(ROOT)): path for path in found}
    return [(name, STORED.sub("", path.read_text())) for name, path in names.items() if name not in KEPT]


@pytest.mark.parametrize("banned", BANNED)
def test_no_banned_words(banned):
    pattern = re.compile(banned, re.IGNORECASE)
    found = []
    for name, text in texts():
        for match in pattern.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            found.append(f"{name}:{number} {text.splitlines()[number - 1].strip()[:100]}")
    assert not found, f"write {BANNED[banned]!r}:\n" + "\n".join(found[:40])
