"""Mutants of the core: small wrong changes, each of which a test must notice.

    python benchmarks/mutate.py --mutants 56 --seed 0             # of the core modules, minutes
    python benchmarks/mutate.py saddlebag/proto/coding/rice.py     # of these files

A mutant turns one comparison, arithmetic or boolean operator, or constant of one file into another. The tests that mirror
the file run on a copy of the package; those mutants are printed that they let live, and the command ends with 1 if there is
one. Some are equivalent to the original (a bound that no input reaches): read them before writing a test.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CORE = (
    "compression",
    "algorithms/methods",
    "algorithms/optimizers",
    "algorithms/groupwise",
    "proto",
    "server",
    "launch/recipe",
)
TIMEOUT_S = 300.0  # a mutant that hangs is noticed, too

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One changed line of a file.

    Attributes:
        path: The file, relative to the repository.
        line: Where.
        text: The whole file, changed.
        shown: The changed expression.
    """

    path: str
    line: int
    text: str
    shown: str


def mutants(path: str, text: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines.

    >>> [mutant.shown for mutant in mutants("f.py", "def f(a, b):\\n    return a < b and b + 1 > 0\\n")]
    ['a < b or b + 1 > 0', 'a <= b', 'b + 1 >= 0', 'b - 1', '1', '2']
    """
    tree = ast.parse(text)
    types = {id(part) for node in ast.walk(tree) for part in _types(node)}
    found = []
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        before = {name: list(value) if isinstance(value, list) else value for name, value in vars(node).items()}
        for change in range(len(node.ops) if isinstance(node, ast.Compare) else 1):
            if _change(node, change):
                found.append(Mutant(path, getattr(node, "lineno", 0), ast.unparse(tree), ast.unparse(node)))
                for name, value in before.items():
                    setattr(node, name, list(value) if isinstance(value, list) else value)
    return found


def _change(node: ast.AST, which: int) -> bool:
    """Change a node in place; False if there is nothing to change."""
    match node:
        case ast.Compare(ops=ops) if type(ops[which]) in COMPARED:
            ops[which] = COMPARED[type(ops[which])]()
        case ast.BinOp(op=op) if type(op) in COMPUTED and not _alternative(node):
            node.op = COMPUTED[type(op)]()
        case ast.BoolOp(op=op):
            node.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value) | float(value)):
            node.value = value + 1
        case _:
            return False
    return True


def _types(node: ast.AST) -> Iterator[ast.AST]:
    """What is said of types alone, which no test runs: annotations, and which keys a TypedDict may lack."""
    match node:
        case ast.arg(annotation=hint) | ast.AnnAssign(annotation=hint) | ast.FunctionDef(returns=hint) if hint is not None:
            yield from ast.walk(hint)
        case ast.ClassDef(keywords=keywords):
            yield from (part for keyword in keywords if keyword.arg == "total" for part in ast.walk(keyword))


def _alternative(node: ast.BinOp) -> bool:
    """`int | None` is no arithmetic."""
    return isinstance(node.op, ast.BitOr) and any(isinstance(part, ast.Constant) for part in (node.left, node.right))


def tests_of(path: str) -> list[str]:
    """The test files that mirror a source: test_<name>.py in its folder, or else all of the folder."""
    inside = Path(path).relative_to("saddlebag")
    folder = Path("tests") / inside.parent
    name = folder / f"test_{inside.stem}.py"
    if (ROOT / name).exists():
        return [str(name)]
    return [str(folder)] if (ROOT / folder).exists() else []


def passes(path: str, text: str, copy_: Path) -> bool:
    """Whether a file's own tests pass with this text in its place."""
    target = copy_ / path
    original = target.read_text()
    target.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(copy_), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not e2e", *tests_of(path)]
    try:
        done = subprocess.run(command, cwd=copy_, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_text(original)
    return done.returncode == 0


def sources(given: list[str]) -> list[str]:
    """The files to change: those given, or the core modules that have tests of their own."""
    if given:
        return [str(Path(each).resolve().relative_to(ROOT)) for each in given]
    files = [path for part in CORE for path in sorted((ROOT / "saddlebag" / part).rglob("*.py"))]
    names = [str(path.relative_to(ROOT)) for path in files if path.name != "__init__.py" and "_pb2" not in path.name]
    return [name for name in names if tests_of(name) and tests_of(name)[0].endswith(".py")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--mutants", type=int, default=20, help="drawn at random; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    names = sources(args.files)
    drawn: list[Mutant] = []
    if args.mutants:
        pools = {name: mutants(name, (ROOT / name).read_text()) for name in names}
        for name in rng.choices(names, k=args.mutants):
            if pools[name]:
                drawn.append(pools[name].pop(rng.randrange(len(pools[name]))))
    else:
        drawn = [mutant for name in names for mutant in mutants(name, (ROOT / name).read_text())]
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        copy_ = Path(folder)
        for part in ("saddlebag", "tests", "docs", "launch"):  # tests read pages and recipes, too
            shutil.copytree(ROOT / part, copy_ / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml"):
            shutil.copy(ROOT / name, copy_ / name)
        for name in sorted({mutant.path for mutant in drawn}):
            if not passes(name, (ROOT / name).read_text(), copy_):
                raise SystemExit(f"the tests of {name} fail without any mutant: {' '.join(tests_of(name))}")
        for mutant in drawn:
            if passes(mutant.path, mutant.text, copy_):
                alive += 1
                print(f"alive: {mutant.path}:{mutant.line}  {mutant.shown.splitlines()[0][:100]}", flush=True)
    print(f"{len(drawn) - alive} of {len(drawn)} mutants noticed")
    sys.exit(bool(alive))


if __name__ == "__main__":
    main()
