"""Who may import whom, and what starting up must not cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("grpc", "matplotlib", "sklearn", "torch")

IMPORT = "import saddlebag"
HELP = """
from saddlebag.launch.cli import main
sys.argv = ["saddlebag", "--help"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
"""


def test_imports_point_one_way() -> None:
    script = "from importlinter.cli import lint_imports_command as main; main()"  # in a process that it may configure: it
    command = [sys.executable, "-c", script, "--no-cache"]  # silences all loggers that are there
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("start", [IMPORT, HELP], ids=["import", "help"])
def test_starting_up_imports_nothing_heavy(start: str) -> None:
    script = f"import sys\n{start}\nprint(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (0, "")


def test_public_names_resolve() -> None:
    import saddlebag

    for name in saddlebag.__all__:
        assert getattr(saddlebag, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = saddlebag.no_such_name
