"""What the supervisor gives its processes; no process is started here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.launch.drivers import supervisor
from saddlebag.launch.recipe.recipe import recipe_from_dict
from saddlebag.proto.token import TOKEN, accepts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

RECIPE = recipe_from_dict(
    {
        "workers": 3,
        "problem": {"name": "bilinear", "n": 4, "regularisation": 0.5},
        "method": {"name": "extragradient", "step_size": 0.1},
        "stop": {"max_rounds": 3},
    }
)


class _Enough(Exception):
    """All processes would run now."""


@dataclasses.dataclass
class _Child:
    """A process that is only noted."""

    name: str
    command: Callable[[bool], list[str]]
    folder: Path
    environment: Mapping[str, str]
    pid: int = 1

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, _Child]:
    children: dict[str, _Child] = {}

    def child(name: str, *rest: Any) -> _Child:
        children[name] = _Child(name, *rest)
        return children[name]

    def enough(pids: dict[str, int]) -> None:
        raise _Enough

    monkeypatch.setattr(supervisor, "Child", child)
    monkeypatch.setattr(supervisor, "_address", lambda *arguments: "127.0.0.1:1")
    with pytest.raises(_Enough):
        supervisor.run_grpc(RECIPE, folder, started=enough)
    return children


def test_every_run_has_a_secret_of_its_own_and_every_worker_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "of another purpose")
    secrets = []
    for run in ("a", "b"):
        children = started(tmp_path / run, monkeypatch)
        secret = children["server"].environment[TOKEN]
        secrets.append(secret)
        assert len(secret) == 64
        for rank in range(3):
            token = children[f"worker-{rank}"].environment[TOKEN]
            assert token != secret
            assert [accepts(token, secret, RECIPE.canonical(), other) for other in range(3)] == [r == rank for r in range(3)]
        words = " ".join(word for child in children.values() for word in child.command(False))
        files = "".join(path.read_text() for path in (tmp_path / run).rglob("*") if path.is_file())
        for child in children.values():
            assert child.environment[TOKEN] not in words
            assert child.environment[TOKEN] not in files
    assert secrets[0] != secrets[1]
