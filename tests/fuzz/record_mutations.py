"""Mutations of records: JSON and YAML with keys removed, types exchanged, huge numbers, deep nesting, odd text."""

import copy
import json

import yaml

ODD_VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    10**30,
    -(10**12),
    1e-320,
    1e300,
    1e308,
    -1e308,
    0.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "\x00",
    "\ud800",
    "../../x",
    "/dev/zero",
    "a" * 100_000,
    "1e999",
    "\u202e",
    [],
    {},
    [None],
    [[]],
    {"": None},
    {"x": {"x": {}}},
    [0] * 5000,
    "gym:No-v0",
    "os:system",
    "tests:x",
    "(a+)+$",
)


def places(tree, limit=4000):
    """Return (container, key) of every value in a tree."""
    found, todo = [], [tree]
    while todo and len(found) < limit:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            todo.append(node[key])
    return found


def nested(depth):
    tree = []
    for _ in range(depth):
        tree = [tree]
    return tree


def mutate_tree(tree, rng):
    """Change one to three values of a tree in place, and return the tree."""
    for _ in range(int(rng.integers(1, 4))):
        spots = places(tree)
        if not spots:
            return ODD_VALUES[rng.integers(len(ODD_VALUES))]
        (node, key), (other, place) = (spots[rng.integers(len(spots))] for _ in range(2))
        kind = int(rng.integers(8))
        if kind == 0:
            del node[key]
        elif kind == 1:
            node[key] = copy.deepcopy(other[place])
        elif kind == 2 and isinstance(node, dict):
            node[f"{key}x"[:: 1 if rng.random() < 0.5 else -1]] = node.pop(key)
        elif kind == 3 and isinstance(node[key], list):
            node[key] = node[key] * int(rng.integers(2, 30)) if len(node[key]) < 300 else node[key][:1]
        elif kind == 4 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = (-node[key], node[key] * 1e9, str(node[key]), node[key] + 1, [node[key]])[rng.integers(5)]
        elif kind == 5:
            node[key] = nested(40)
        else:
            node[key] = ODD_VALUES[rng.integers(len(ODD_VALUES))]
    return tree


def _deep(text, rng):
    return "[" * int(rng.choice((900, 5000, 200_000)))


def _wrapped(text, rng):
    depth = int(rng.choice((50, 900, 5000)))
    return '{"a":' * depth + text + "}" * depth


def _digits(text, rng):
    return text.replace("1", "1" * 5000, 1)


def _surrogate(text, rng):
    return text.replace('"', '"\\ud800', 1)


def _doubled(text, rng):
    return text.replace("{", '{"format_version": 1, "format_version": [], ', 1)


JSON_TEXTS = (_deep, _wrapped, _digits, _surrogate, _doubled)


def mutate_json(content, rng):
    if rng.random() < 0.08:
        return JSON_TEXTS[rng.integers(len(JSON_TEXTS))](content.decode(), rng).encode("utf-8", "surrogatepass")
    return json.dumps(mutate_tree(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def mutate_lines(content, rng):
    """Change one line of a JSON-lines file."""
    lines = content.splitlines() or [b"{}"]
    i = int(rng.integers(len(lines)))
    lines[i] = mutate_json(lines[i], rng)
    return b"\n".join(lines) + b"\n"


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_TEXTS = (
    _BOMB,
    "{a: &a [*a]}",
    "!!python/object/apply:os.system ['echo hostile']",
    "!!int ''",
    "!!float x",
    "!!timestamp x",
    "2001-99-99",
    "!!binary '#'",
    "!!set {a, b}",
    "!!omap [a]",
    "!!pairs [a, b]",
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "a: b: c",
    "\t",
    "- &x\n- *y",
    "%YAML 9.9\n---\na: b",
    "a: !!null x",
    "--- a\n--- b",
    "<<: [1]",
    "<<: {a: 1}",
    "a: 1:99:99.9",
    "!x y",
    "\x00",
    "\ufeff",
    "'",
    '"\\xZZ"',
    "a: 0x",
    "a: 0b2",
    "a: 1_",
    "a: .inf",
    "a: 099",
    "!!int '1e4'",
    "!!bool x",
    "{" * 400,
    "[" * 3000,
    "- " * 3000,
    "a: " + "9" * 6000,
    "!!float '" + "9" * 6000 + "'",
    "!!int '0b" + "1" * 30000 + "'",
)


def mutate_yaml(content, rng):
    """Change values, or put a text in that YAML reads in an unusual way."""
    kind = rng.random()
    if kind < 0.1:
        return YAML_TEXTS[rng.integers(len(YAML_TEXTS))].encode("utf-8", "surrogatepass")
    if kind < 0.3:
        lines = content.decode().splitlines()
        text = YAML_TEXTS[rng.integers(len(YAML_TEXTS))]
        i = int(rng.integers(len(lines)))
        head, colon, _ = lines[i].partition(":")
        lines[i] = f"{head}: {text}" if colon and rng.random() < 0.7 else text
        return "\n".join(lines).encode("utf-8", "surrogatepass")
    tree = mutate_tree(yaml.safe_load(content), rng)
    return yaml.safe_dump(tree, allow_unicode=False, width=100).encode("utf-8", "surrogatepass")
