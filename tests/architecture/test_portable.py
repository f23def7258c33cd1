"""What only some systems have stays where it is guarded: the package imports and runs on Linux, macOS, and without /proc."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "saddlebag").rglob("*.py") if not path.name.endswith("_pb2.py"))
LINUX_ONLY = {"sched_getaffinity", "sched_setaffinity", "sched_setscheduler", "sched_param", "SCHED_BATCH"}
POSIX_ONLY = {"fork", "forkpty", "getuid", "geteuid", "getloadavg", "killpg", "setsid", "posix_fallocate", "posix_fadvise"}
UNIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty"}
GUARDED = {  # each with its guard
    "saddlebag/launch/cores.py": "hasattr",
    "saddlebag/launch/drivers/process.py": "contextlib.suppress",
    "saddlebag/launch/data/cache.py": "except ImportError",
    "saddlebag/launch/drivers/nursery.py": "sys.platform: elsewhere processes start by exec",
    "saddlebag/launch/ownership.py": "except ImportError",
    "saddlebag/flower/trials/deployment.py": "for studies on Linux: it starts Flower's processes in a session of their own",
}


def particular(text: str) -> list[str]:
    """Where a source names what only some systems have."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in LINUX_ONLY | POSIX_ONLY:
                found.append(f"line {node.lineno}: os.{name}")
            case ast.Import(names=names):
                found += [f"line {node.lineno}: import {each.name}" for each in names if each.name in UNIX_MODULES]
            case ast.ImportFrom(module=module) if module in UNIX_MODULES:
                found.append(f"line {node.lineno}: from {module}")
            case ast.Constant(value=str(value)) if value.startswith("/proc"):
                found.append(f"line {node.lineno}: {value}")
            case ast.Call(func=ast.Attribute(attr="get_context"), args=[ast.Constant(value="fork" | "forkserver" as how)]):
                found.append(f"line {node.lineno}: processes by {how}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unguarded_that_only_some_systems_have(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in GUARDED:
        assert particular(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "import os\nlen(os.sched_getaffinity(0))",
        "import fcntl",
        "from resource import getrusage",
        'open("/proc/self/status")',
        "os.fork()",
        'multiprocessing.get_context("fork")',
    ],
)
def test_the_search_finds(text: str) -> None:
    assert particular(text)


def test_the_list_of_guards_is_no_longer_than_needed() -> None:
    assert all(particular((ROOT / name).read_text(encoding="utf-8")) for name in GUARDED)
