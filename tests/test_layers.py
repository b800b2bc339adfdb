"""Imports point down: the floors of docs/architecture.md, held by the code's own import statements."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Module prefix -> floor; the longest prefix counts. A module may import its own floor and those below.
FLOORS = {
    "attnbuild": 0,
    "attnbuild.data": 0,
    "attnbuild.attention": 1,
    "attnbuild.feature_attention": 1,
    "attnbuild.embedding": 2,
    "attnbuild.feedforward": 2,
    "attnbuild.residual": 2,
    "attnbuild.rnn": 2,
    "attnbuild.encoders": 2,
    "attnbuild.decoders": 2,
    "attnbuild.initialisation": 2,
    "attnbuild.measure": 2,
    "attnbuild.generation": 3,
    "attnbuild.places": 3,
    "attnbuild.model": 3,
    "attnbuild.export": 3,
    "attnbuild.training": 3,
    "attnbuild.sweeps": 4,
    "attnbuild.tasks": 4,
    "attnbuild.cli": 5,
    "attnbuild.__main__": 5,
}
#: The lazy front door names what it hands out.
FRONT = {"attnbuild", "attnbuild.names"}


def floor(module: str) -> int:
    return FLOORS[max((prefix for prefix in FLOORS if f"{module}.".startswith(f"{prefix}.")), key=len)]


def modules() -> dict[str, Path]:
    files = [*(ROOT / "attnbuild").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]
    named = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("attnbuild", *parts) if parts[0] == "tasks" else parts
        named[".".join(parts).removesuffix(".__init__")] = path
    return named


MODULES = modules()


def imports(path: Path) -> set[str]:
    """What a file imports of attnbuild when it runs; imports for the type checker alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    return named_in(ast.walk(tree))


def named_in(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules of attnbuild that import statements among the nodes name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {module for module in found if module.startswith("attnbuild")}


@pytest.mark.parametrize("module", sorted(set(MODULES) - FRONT))
def test_imports_point_down(module: str) -> None:
    for imported in imports(MODULES[module]):
        assert floor(imported) <= floor(module), f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith("attnbuild.tasks")))
def test_attnbuild_never_imports_its_tasks(module: str) -> None:
    assert not [name for name in imports(MODULES[module]) if name.startswith("attnbuild.tasks")]


def test_no_import_circle() -> None:
    """Modules can be put in an order in which each imports only earlier ones, inside functions too."""
    top = {name: imports(path) & set(MODULES) for name, path in MODULES.items()}
    done: set[str] = set()
    while len(done) < len(top):
        ready = [name for name in top if name not in done and top[name] - {name} <= done]
        assert ready, f"a circle among {sorted(set(top) - done)}"
        done.update(ready)
