"""Single mutations of Python source: where one is possible, and the source after it.

A mutation replaces a piece of text and nothing else, so the line numbers of the rest stay. Docstrings, annotations,
imports and the text of error messages are left alone: no test should depend on them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "in": "not in", "not in": "in",
               "is": "is not", "is not": "is"}  # fmt: skip
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "**": "*", "%": "*", "@": "*"}
SIGNS = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in",
    ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
    ast.FloorDiv: "//", ast.Pow: "**", ast.Mod: "%", ast.MatMult: "@", ast.And: "and", ast.Or: "or",
}  # fmt: skip
SWAPPED_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any", "mean": "sum", "sum": "mean",
                 "argmax": "argmin", "clamp_min": "clamp_max", "clamp_max": "clamp_min"}  # fmt: skip
DROPPED_CALLS = ("detach", "clone", "eval", "clamp", "abs", "exp", "softmax", "log_softmax", "sqrt", "square")


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Attributes:
        path: the file, relative to the repository.
        line: line of the change, from 1.
        start: place of the replaced text in the file, characters.
        end: place behind it.
        new: the text that replaces it.
        what: the change in words, for the report.
    """

    path: str
    line: int
    start: int
    end: int
    new: str
    what: str

    def applied(self, source: str) -> str:
        """Return the file's text after the change."""
        return source[: self.start] + self.new + source[self.end :]


def mutations(root: Path, path: str) -> list[Mutation]:
    """Return every mutation of a file that leaves it valid Python."""
    source = (root / path).read_text()
    found = []
    for node, start, end, new, what in _Finder(source).changes():
        mutation = Mutation(path, node.lineno, start, end, new, what)
        try:
            ast.parse(mutation.applied(source))
        except SyntaxError:
            continue
        found.append(mutation)
    return found


Change = tuple[ast.expr | ast.stmt, int, int, str, str]


class _Finder:
    def __init__(self, source: str) -> None:
        self.source, self.tree = source, ast.parse(source)
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def changes(self) -> Iterator[Change]:
        for node in self._nodes(self.tree):
            yield from self._of(node)

    def _nodes(self, node: ast.AST) -> Iterator[ast.AST]:
        """Walk without annotations, imports, docstrings, raised errors and type-checking blocks."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom | ast.Raise):
                    continue
                if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                    continue
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    continue
                if isinstance(child, ast.JoinedStr) or _is_export(child):
                    continue
                yield child
                yield from self._nodes(child)

    def _of(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            sign = SIGNS[type(node.ops[0])]
            yield from self._between(node, node.left, node.comparators[0], sign, COMPARISONS[sign])
        elif isinstance(node, ast.BinOp) and type(node.op) in SIGNS and not _is_text(node):
            sign = SIGNS[type(node.op)]
            yield from self._between(node, node.left, node.right, sign, ARITHMETIC[sign])
        elif isinstance(node, ast.BoolOp):
            sign = SIGNS[type(node.op)]
            yield from self._between(node, node.values[0], node.values[1], sign, "or" if sign == "and" else "and")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._whole(node, f"({self._text(node.operand)})", "drop not")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield self._whole(node, f"({self._text(node.operand)})", "drop minus")
        elif isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield self._whole(node, "pass", f"drop the statement {_short(self._text(node))}")
        elif isinstance(node, ast.If):
            test = self._text(node.test)
            yield (node, *self._span(node.test), f"(not ({test}))", f"negate if {_short(test)}")
        elif isinstance(node, ast.IfExp):
            text = f"({self._text(node.body)})"
            yield self._whole(node, text, f"always {_short(text)}")

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        value = node.value
        if isinstance(value, bool):
            yield self._whole(node, str(not value), f"{value} -> {not value}")
        elif isinstance(value, int):
            yield self._whole(node, str(value + 1), f"{value} -> {value + 1}")
        elif isinstance(value, float):
            new = repr(value * 1.5) if value else "1.0"
            yield self._whole(node, new, f"{value} -> {new}")

    def _call(self, node: ast.Call) -> Iterator[Change]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in SWAPPED_CALLS:
            end = self._span(node.func)[1]
            yield node, end - len(name), end, SWAPPED_CALLS[name], f"{name} -> {SWAPPED_CALLS[name]}"
        elif name in DROPPED_CALLS and isinstance(node.func, ast.Attribute):
            yield self._whole(node, self._text(node.func.value), f"drop {name}()")

    def _between(self, node: ast.expr, left: ast.expr, right: ast.expr, sign: str, new: str) -> Iterator[Change]:
        start, end = self._span(left)[1], self._span(right)[0]
        place = self.source.find(sign, start, end)
        if place >= 0 and "#" not in self.source[start:end]:
            yield node, place, place + len(sign), new, f"{sign} -> {new}"

    def _whole(self, node: ast.expr | ast.stmt, new: str, what: str) -> Change:
        return (node, *self._span(node), new, what)

    def _text(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.source, node) or ""

    def _span(self, node: ast.AST) -> tuple[int, int]:
        """Return first place of a node and the place behind it, in characters; columns of ast are UTF-8 bytes."""
        return self._place(node.lineno, node.col_offset), self._place(node.end_lineno, node.end_col_offset)

    def _place(self, line: int, column: int) -> int:
        text = self.source[self.starts[line - 1] : self.starts[line]]
        return self.starts[line - 1] + len(text.encode()[:column].decode())


def _is_export(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _is_text(node: ast.BinOp) -> bool:
    """Whether an operand is text, so that a sum joins words."""
    return any(
        isinstance(n, ast.JoinedStr) or isinstance(getattr(n, "value", None), str) for n in (node.left, node.right)
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."
