"""C headers of policies: one function, no memory allocation, no dependency but ``math.h``.

It only prints a program; compiling and checking the header is done in ``runtime`` and ``check``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from policykd.agents.export.program import (
    Activate,
    Affine,
    Clamp,
    Columns,
    Combine,
    Convolve,
    Dense,
    Exchange,
    IsGreater,
    Join,
    Mix,
    Operation,
    Program,
    Softmax,
    Target,
    Value,
)

_PER_LINE = 12


def c_header(program: Program, name: str, comment: str) -> str:
    """Return a header that defines ``static inline void NAME_act(inputs ..., outputs ...)`` for one observation.

    A recurrent policy's ``state`` is an input and ``next_state`` an output; they must not be the same memory.

    Weights are stored by input, so that a compiler turns the loops over outputs into vector instructions without
    reordering sums.

    Args:
        program: the policy.
        name: prefix of all names, a C identifier.
        comment: text at the top of the file.
    """
    writer = _Writer(name)
    for value, operation in program.steps:
        writer.add(value, operation, program.outputs)
    inputs = [f"const float {v.name}[{v.size}]" for v in program.inputs]
    outputs = [f"float {v.name}[{v.size}]" for v in program.outputs]
    guard = f"{name.upper()}_H"
    sizes = [f"#define {name.upper()}_{v.name.upper()} {v.size}" for v in (*program.inputs, *program.outputs)]
    lines = [
        "/*", *(f" * {line}".rstrip() for line in comment.splitlines()), " */",
        f"#ifndef {guard}", f"#define {guard}", "", "#include <math.h>", "", *sizes, "", *writer.tables, "",
        f"static inline void {name}_act({', '.join(inputs + outputs)})", "{", *writer.body, "}", "", "#endif", "",
    ]  # fmt: skip
    return "\n".join(lines)


class _Writer:
    """Tables and statements under construction.

    Attributes:
        tables: constants at file scope.
        body: statements of the function.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.tables: list[str] = []
        self.body: list[str] = []

    def add(self, value: Value, operation: Operation, outputs: tuple[Value, ...]) -> None:
        """Append the statements of an operation whose result is ``value``."""
        if value not in outputs:
            self.body.append(f"    float {value.name}[{value.size}];")
        self.body += [f"    {line}" for line in _WRITERS[type(operation)](self, value, operation)]

    def table(self, name: str, values: np.ndarray) -> str:
        """Store numbers as a table and return its name."""
        whole = values.dtype.kind in "iu"
        texts = [str(int(v)) if whole else _number(float(v)) for v in values.ravel()]
        rows = [", ".join(texts[i : i + _PER_LINE]) for i in range(0, len(texts), _PER_LINE)]
        full = f"{self._name}_{name}"
        self.tables.append(f"static const {'int' if whole else 'float'} {full}[{len(texts)}] = {{")
        self.tables += [f"    {row}," for row in rows]
        self.tables.append("};")
        return full


def _number(value: float) -> str:
    """Return a float32 as a C literal that reads back to the same bits."""
    return f"{value:.9g}f" if any(c in f"{value:.9g}" for c in ".en") else f"{value:.9g}.0f"


def _loop(size: int, statement: str, index: str = "i") -> str:
    return f"for (int {index} = 0; {index} < {size}; ++{index}) {statement}"


def _join(writer: _Writer, out: Value, op: Join) -> list[str]:
    lines, start = [], 0
    for value in op.inputs:
        lines.append(_loop(value.size, f"{out.name}[{start} + i] = {value.name}[i];"))
        start += value.size
    return lines


def _columns(writer: _Writer, out: Value, op: Columns) -> list[str]:
    return [_loop(op.size, f"{out.name}[i] = {op.value.name}[{op.start} + i];")]


def _is_greater(writer: _Writer, out: Value, op: IsGreater) -> list[str]:
    return [f"{out.name}[0] = {op.value.name}[{op.left}] > {op.value.name}[{op.right}] ? 1.0f : 0.0f;"]


def _exchange(writer: _Writer, out: Value, op: Exchange) -> list[str]:
    order, signs = writer.table(f"{out.name}_order", op.order), writer.table(f"{out.name}_signs", op.signs)
    other = f"{op.value.name}[{order}[i]] * {signs}[i]"
    return [_loop(out.size, f"{out.name}[i] = {op.mask.name}[0] > 0.0f ? {other} : {op.value.name}[i];")]


def _affine(writer: _Writer, out: Value, op: Affine) -> list[str]:
    offset, divisor = writer.table(f"{out.name}_offset", op.offset), writer.table(f"{out.name}_divisor", op.divisor)
    return [_loop(out.size, f"{out.name}[i] = ({op.value.name}[i] - {offset}[i]) / {divisor}[i];")]


def _target(writer: _Writer, out: Value, op: Target) -> list[str]:
    offset, factor = writer.table(f"{out.name}_offset", op.offset), writer.table(f"{out.name}_factor", op.factor)
    return [_loop(out.size, f"{out.name}[i] = {offset}[i] + {factor}[i] * {op.value.name}[i];")]


def _clamp(writer: _Writer, out: Value, op: Clamp) -> list[str]:
    low, high = writer.table(f"{out.name}_low", op.low), writer.table(f"{out.name}_high", op.high)
    return [_loop(out.size, f"{out.name}[i] = fmaxf({low}[i], fminf({high}[i], {op.value.name}[i]));")]


def _dense(writer: _Writer, out: Value, op: Dense) -> list[str]:
    weight, bias = writer.table(f"{out.name}_weight", op.weight.T), writer.table(f"{out.name}_bias", op.bias)
    inner = _loop(out.size, f"{out.name}[j] += {weight}[i * {out.size} + j] * {op.value.name}[i];", "j")
    return [_loop(out.size, f"{out.name}[i] = {bias}[i];"), _loop(op.value.size, inner)]


def _convolve(writer: _Writer, out: Value, op: Convolve) -> list[str]:
    filters, channels, width = op.weight.shape
    points, results = op.value.size // channels, out.size // filters
    weight, bias = writer.table(f"{out.name}_weight", op.weight), writer.table(f"{out.name}_bias", op.bias)
    value = f"{op.value.name}[c * {points} + p * {op.stride} + k]"
    term = f"sum += {weight}[(f * {channels} + c) * {width} + k] * {value};"
    total = f"float sum = {bias}[f]; {_loop(channels, _loop(width, term, 'k'), 'c')}"
    return [_loop(filters, _loop(results, f"{{ {total} {out.name}[f * {results} + p] = sum; }}", "p"), "f")]


def _activate(writer: _Writer, out: Value, op: Activate) -> list[str]:
    x = f"{op.value.name}[i]"
    formulas = {"elu": f"{x} > 0.0f ? {x} : expm1f({x})", "relu": f"fmaxf({x}, 0.0f)", "tanh": f"tanhf({x})",
                "sigmoid": f"1.0f / (1.0f + expf(-{x}))"}  # fmt: skip
    return [_loop(out.size, f"{out.name}[i] = {formulas[op.kind]};")]


def _combine(writer: _Writer, out: Value, op: Combine) -> list[str]:
    sign = {"add": "+", "subtract": "-", "multiply": "*"}[op.kind]
    return [_loop(out.size, f"{out.name}[i] = {op.left.name}[i] {sign} {op.right.name}[i];")]


def _softmax(writer: _Writer, out: Value, op: Softmax) -> list[str]:
    name, value = out.name, op.value.name
    return [
        f"float {name}_max = {value}[0], {name}_sum = 0.0f;",
        _loop(out.size, f"{name}_max = fmaxf({name}_max, {value}[i]);"),
        _loop(out.size, f"{{ {name}[i] = expf({value}[i] - {name}_max); {name}_sum += {name}[i]; }}"),
        _loop(out.size, f"{name}[i] /= {name}_sum;"),
    ]


def _mix(writer: _Writer, out: Value, op: Mix) -> list[str]:
    terms = " + ".join(f"{op.weights.name}[{k}] * {value.name}[i]" for k, value in enumerate(op.inputs))
    return [_loop(out.size, f"{out.name}[i] = {terms};")]


_WRITERS: dict[type, Callable[..., list[str]]] = {
    Join: _join, Columns: _columns, IsGreater: _is_greater, Exchange: _exchange, Affine: _affine, Target: _target,
    Clamp: _clamp, Dense: _dense, Convolve: _convolve, Activate: _activate, Combine: _combine, Softmax: _softmax,
    Mix: _mix,
}  # fmt: skip
