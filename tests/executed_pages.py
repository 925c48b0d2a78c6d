"""Runs a Markdown page from top to bottom: its files, shell and Python blocks, and what it says they print and write.

A page's blocks are

* ``sh``: commands of policykd, run in this process; commands of ``cc``, run in a shell; others fail;
* ``python``: executed in one namespace per page;
* any other language below a line "Save as `NAME`:": written to that file;
* ``text title="printed"``: lines, in order, of what blocks printed since the last such block; ``…`` is anything;
* ``text title="files"``: files that must be there now.
"""

import glob
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from policykd.cli.main import main

_BLOCK = re.compile(r"^```(\w+)(?: title=\"(\w+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SAVED = re.compile(r"Save as `([\w./-]+)`:\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, title and text, and the name that the line above saves it under."""

    language: str
    title: str
    text: str
    saved_as: str = ""


@dataclass(frozen=True)
class Budget:
    """What a test makes small; all else runs as written.

    Attributes:
        options: command, such as ``train`` or ``kd bench``, to options and their values. Values replace those of the
            page, but for assignments (``--set a=1``), which follow them.
        code: text of Python blocks to its replacement.
    """

    options: dict[str, dict[str, list[str]]]
    code: dict[str, str] = field(default_factory=dict)


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page in order."""
    found = []
    for match in _BLOCK.finditer(text):
        saved = _SAVED.search(text[: match.start()])
        found.append(Block(match[1], match[2] or "", match[3], saved[1] if saved else ""))
    return found


def shrunk(words: list[str], budget: Budget) -> list[str]:
    """Return the words of a command with the options of the budget."""
    name = " ".join(words[: 2 if words[0] in ("kd", "robots") else 1])
    for option, values in budget.options.get(name, {}).items():
        start = words.index(option) + 1 if option in words else len(words)
        end = next((i for i in range(start, len(words)) if words[i].startswith("--")), len(words))
        assigned = bool(values) and "=" in values[0]
        kept = [word for word in words[start:end] if assigned and "=" in word]
        head = words[:start] if option in words else [*words, option]
        words = [*head, *kept, *values, *words[end:]]
    return words


def missing_lines(wanted: str, printed: str) -> list[str]:
    """Return the lines of a page that do not follow each other in what was printed."""
    missing, place = [], 0
    flat = re.sub(r"[ \t]+", " ", printed)
    for line in wanted.splitlines():
        words = r"[^\n]*?".join(re.escape(part.strip()) for part in line.split("…"))
        found = re.compile(words.replace(r"\ ", " ")).search(flat, place)
        if found is None:
            missing.append(line)
        else:
            place = found.end()
    return missing


class PageRun:
    """One page, run in the current folder.

    Args:
        page: the page.
        budget: what is made small.
        capture: pytest's ``capsys``.
    """

    def __init__(self, page: Path, budget: Budget, capture):
        self.page, self.budget, self.capture = page, budget, capture
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.printed = ""
        self.replaced: set[str] = set()

    def run(self) -> list[Block]:
        """Run all blocks and return them; AssertionError if a command fails or the page says something wrong."""
        blocks = blocks_of(self.page.read_text())
        for block in blocks:
            if block.language == "sh":
                for line in block.text.replace("\\\n", " ").splitlines():
                    self.command(line)
            elif block.language == "python":
                self.program(block.text)
            elif block.title == "printed":
                missing = missing_lines(block.text, self.printed)
                assert not missing, f"{self.page.name}: not printed: {missing[0]}\n{self.printed}"
                self.printed = ""
            elif block.title == "files":
                absent = [name for name in block.text.split() if not Path(name).exists()]
                assert not absent, f"{self.page.name}: files that are not there: {absent}"
            else:
                assert block.saved_as, f"{self.page.name}: a block of {block.language} without a name to save it under"
                Path(block.saved_as).write_text(block.text)
        stale = self.budget.code.keys() - self.replaced
        assert not stale, f"{self.page.name} does not hold what the test makes small: {sorted(stale)}"
        return blocks

    def command(self, line: str) -> None:
        """Run a line of a shell block."""
        words = shlex.split(line, comments=True)
        if not words:
            return
        if words[0] == "cc":
            ended = subprocess.run(line, shell=True, capture_output=True, text=True)
            assert ended.returncode == 0, (line, ended.stderr)
            self.printed += ended.stdout
            return
        assert words[0] == "policykd", f"{self.page.name}: the test cannot run {line!r}"
        given = [part for word in words[1:] for part in (sorted(glob.glob(word)) if "*" in word else [word])]
        status = main(shrunk(given, self.budget))
        said = self.capture.readouterr()
        assert status == 0, f"{self.page.name}: {line}\n{said.out}\n{said.err}"
        self.printed += said.out

    def program(self, text: str) -> None:
        """Run a Python block in the namespace of the page."""
        for old, new in self.budget.code.items():
            if old in text:
                text = text.replace(old, new)
                self.replaced.add(old)
        exec(compile(text, f"{self.page.name}, block of Python", "exec"), self.names)
        self.printed += self.capture.readouterr().out
