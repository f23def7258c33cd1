"""What `saddlebag list` keeps: the same rows as before, from a file that nothing depends on."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from saddlebag.launch.advice import kept_entries, listing
from saddlebag.launch.advice.kept_entries import entries_of, kept_at

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("methods", "compressors", "problems", "learners", "mixers")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_rows_are_kept_as_they_were_and_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = entries_of(KINDS)
    assert fresh == ({kind: listing.entries(kind) for kind in KINDS}, ())
    monkeypatch.setattr(listing, "entries", lambda kind: pytest.fail("worked out again"))
    assert entries_of(KINDS) == fresh
    assert entries_of(["mixers"]) == ({"mixers": fresh[0]["mixers"]}, ())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"state": 1}', '{"state": "x", "entries": {"mixers": []}}'])
def test_what_is_no_listing_of_this_state_is_passed_over(text: str) -> None:
    kept_at().parent.mkdir(parents=True)
    kept_at().write_text(text)
    assert entries_of(["mixers"])[0]["mixers"] == listing.entries("mixers")
    assert json.loads(kept_at().read_text())["entries"].keys() == {"mixers"}


def test_a_file_that_has_changed_is_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entries_of(["mixers"])
    monkeypatch.setattr(listing, "entries", lambda kind: [{"name": "new"}])
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "method.py").touch()
    before = list(kept_entries._stamps(tmp_path / "package"))
    (tmp_path / "package" / "method.py").write_text("changed")
    assert list(kept_entries._stamps(tmp_path / "package")) != before
    monkeypatch.setattr(kept_entries, "_stamps", lambda folder: ["another"])
    assert entries_of(["mixers"]) == ({"mixers": [{"name": "new"}]}, ())


def test_nothing_is_kept_beside_plug_ins_or_where_nothing_can_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugins = SimpleNamespace(origins={("methods", "mine"): "package 1.0"}, warnings=("plug-in 'other' is broken",))
    monkeypatch.setattr("saddlebag.launch.recipe.plugins.load_plugins", lambda: plugins)
    assert entries_of(["mixers"])[1] == plugins.warnings
    assert not kept_at().exists()
    monkeypatch.undo()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert entries_of(["mixers"])[0]["mixers"]


def test_the_second_time_takes_no_mathematics() -> None:
    code = "import sys; from saddlebag.launch.advice.kept_entries import entries_of; entries_of(['methods'])"
    heavy = f"{code}; sys.exit(' '.join({{'numpy', 'torch', 'grpc', 'rich'}} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=True).returncode == 0
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=False).stderr.strip() == ""
