"""requirements.lock holds every version of constraints.txt, each with the digests of its files; the audit reads findings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


def versions(text: str) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PINNED.findall(text)}


def test_every_pinned_version_is_locked() -> None:
    pinned = versions((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    locked = versions(LOCK)
    assert len(pinned) > 100
    assert {name: locked.get(name) for name in pinned} == pinned, "run `make lock`"


def test_every_locked_version_has_digests() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(versions(LOCK))
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


def test_what_the_package_asks_for_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["coverage"],
        "hatchling",
    ]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ;]", each)[0]).lower() for each in asked}
    assert names <= versions(LOCK).keys(), "run `make lock`"


def _audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("packages", "lines", "status"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], ["0 findings in 1 packages"], 0),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            ["a 1: CVE-1, fixed in 2", "1 findings in 1 packages"],
            1,
        ),
        (
            [{"name": "a", "skip_reason": "not found"}],
            ["not audited, since the database does not know them: 1 of 1 packages", "0 findings in 0 packages"],
            0,
        ),
    ],
)
def test_an_audit_fails_on_findings_only(packages: list[dict[str, Any]], lines: list[str], status: int) -> None:
    assert _audit().verdict({"dependencies": packages}) == (lines, status)


def test_an_audit_that_cannot_be_made_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    audit = _audit()
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: None)
    lines, status = audit.audit(tmp_path)
    assert status == 0
    assert lines[0].startswith("not audited: ")
