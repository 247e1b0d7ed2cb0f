"""Which source files a stage's result depends on, and their digests: how code drift is noticed.

The closure follows `lifecycle` imports, and the workers that its modules start (`WORKER = "..."`).
Only what runs counts: comments, docstrings and layout do not change a digest.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

PACKAGE = "lifecycle"
ROOT = Path(__file__).parent.parent
# Python before 3.11.8 may refuse a file that is parsed while another thread parses: "AST constructor recursion depth
# mismatch" (cpython#106905). Workers of a cluster look up sources in several threads.
PARSING = Lock()
WORKER = "WORKER"  # the name under which a module says which program it starts

# The house around the stages: it stores, starts and checks, but computes no byte of any artifact.
PLUMBING = {
    f"{PACKAGE}.{name}"
    for name in (
        "artifacts",
        "contracts",
        "engines",
        "errors",
        "launch",
        "launchers.environment",
        "launchers.local",
        "launchers.shape",
        "launchers.static_nodes",
        "ledger",
        "model.activations",
        "model.compute",
        "model.fitting",
        "model.machine",
        "model.memory",
        "model.states",
        "progress",
        "runs",
        "sealing",
        "source",
        "spread",
        "store",
        "workers.guard",
        "workers.heartbeat",
        "workers.job",
        "workers.spread",
    )
}


def source_closure(stage: Callable[..., Any]) -> dict[str, str]:
    """Relative file name -> digest of its syntax tree, for the stage's module and all it imports from here."""
    start = inspect.getmodule(stage)
    if start is None or not start.__name__.startswith(f"{PACKAGE}."):
        return {}  # a stage defined elsewhere (a test, a plug-in) is versioned by its `revision` alone
    names = [start.__name__]
    seen: dict[str, str] = {}
    visited: set[str] = set()
    while names:
        name = names.pop()
        file = _file_of(name)
        if name in visited or name in PLUMBING or file is None:
            continue
        visited.add(name)
        digest, imported = _parse(file)
        seen[file.relative_to(ROOT).as_posix()] = digest
        names.extend(imported)
        for data in sorted(file.parent.glob("*.jinja")):  # templates are code too
            seen[data.relative_to(ROOT).as_posix()] = hashlib.sha256(data.read_bytes()).hexdigest()
    return dict(sorted(seen.items()))


def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _parse(file: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of what the file does, and the project modules it imports or starts as a worker."""
    with PARSING:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            imported += [
                str(node.value.value) for name in node.targets if isinstance(name, ast.Name) and name.id == WORKER
            ]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    digest = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
    return digest, tuple(name for name in imported if name.startswith(f"{PACKAGE}."))


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
        node.body[0] = ast.Expr(ast.Constant(""))
