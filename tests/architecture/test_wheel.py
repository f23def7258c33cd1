"""What an installation brings, and what the repository's root must not hide."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL_OF_NEWER_PYTHONS = {"annotationlib", "compression"}  # 3.14


@pytest.mark.e2e
def test_wheel_brings_one_top_level_name(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"saddlebag"}
    assert "saddlebag/py.typed" in names
    recipes = {f"saddlebag/recipes/{path.name}" for path in (ROOT / "saddlebag" / "recipes").glob("*.toml")}
    assert recipes
    assert recipes <= set(names)
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("/METADATA"))))
    home = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))["Homepage"]
    targets = re.findall(r"\]\(([^)#]+)", str(metadata.get_payload()))
    assert len(targets) > 20
    for target in targets:  # a package page has no files beside it
        kind, path = re.fullmatch(rf"{re.escape(home)}/(blob|raw)/main/(.+)", target).groups()  # type: ignore[union-attr]
        assert (ROOT / path).exists(), target
        assert kind == ("raw" if path.endswith(".png") else "blob")


def test_standard_library_imports_from_the_root() -> None:
    subprocess.run([sys.executable, "-c", "import gzip, bz2, lzma"], cwd=ROOT, check=True)


def test_no_name_in_the_root_hides_a_standard_module() -> None:
    importable = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert not importable & (sys.stdlib_module_names | TOP_LEVEL_OF_NEWER_PYTHONS)
