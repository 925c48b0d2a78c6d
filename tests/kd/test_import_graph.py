"""The modules of policykd.kd import one another in one direction, imports inside functions included."""

import ast
from pathlib import Path

import policykd.kd

ROOT = Path(policykd.kd.__file__).parent


def typing_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def statements(node):
    """All statements that run at some time, those for static tools left out."""
    for child in ast.iter_child_nodes(node):
        if not typing_only(child):
            yield child
            yield from statements(child)


def imports():
    """Module -> modules that it imports, inside policykd.kd."""
    paths = {".".join(("policykd.kd", *p.relative_to(ROOT).with_suffix("").parts)): p for p in ROOT.rglob("*.py")}
    graph = {}
    for name, path in paths.items():
        found = set()
        for node in statements(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = {other for other in found if other in paths and other != name}
    return graph


def circle(graph):
    """The modules of a circle, in order; empty without one."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph[name]):
            if found := visit(other):
                return found
        path.pop()
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def test_no_module_imports_itself_by_a_detour():
    assert circle(imports()) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
