"""The size and shape of the package, counted from its source: ``python -m tests.benchmarks.layout [FOLDER]``."""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Print modules, lines, names at the top, functions, private ones with a single caller, comments, imports."""
    package = Path(sys.argv[1] if len(sys.argv) > 1 else "pytest_promptfit")
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = sum(text.count("\n") for text in texts.values())
    sizes = sorted(length for tree in trees.values() for length in function_lines(tree))
    alone, total = single_callers(trees)
    comments = sum(map(comment_lines, texts.values()))
    top = sorted({path.relative_to(package).parts[0] for path in texts} - {"__init__.py"})
    graph = {module(path, package): imports(tree, package.name) for path, tree in trees.items()}
    print(f"modules {len(texts)}, lines {lines}, names at the top {len(top)}: {', '.join(top)}")
    print(
        f"functions {len(sizes)}: median {statistics.median(sizes):g}, p90 {sizes[int(len(sizes) * 0.9)]}, "
        f"longest {sizes[-1]} lines"
    )
    print(f"private with a single caller: {alone} of {total} = {alone / total:.0%}")
    print(f"comment lines in 100: {100 * comments / lines:.1f}")
    print(f"longest chain of imports: {longest_chain(graph)}")


def function_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def single_callers(trees: dict[Path, ast.Module]) -> tuple[int, int]:
    """Count functions, and those private to a module that its other code names exactly once."""
    alone = total = 0
    for tree in trees.values():
        named = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        named.update(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        for node in ast.walk(tree):
            if isinstance(node, Function):
                total += 1
                private = node.name.startswith("_") and not node.name.startswith("__")
                alone += private and named[node.name] == 1
    return alone, total


def comment_lines(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and not token.string.startswith("# noqa") for token in tokens)


def module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST, package: str) -> set[str]:
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def longest_chain(graph: dict[str, set[str]]) -> int:
    """Return how many modules the longest way down passes; a circle is walked once."""
    seen: dict[str, int] = {}

    def depth(name: str, above: frozenset[str]) -> int:
        if name not in seen:
            below = [depth(other, above | {name}) for other in graph[name] if other in graph and other not in above]
            seen[name] = 1 + max(below, default=0)
        return seen[name]

    return max(depth(name, frozenset({name})) for name in graph)


if __name__ == "__main__":
    main()
