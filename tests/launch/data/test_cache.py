"""The cache of a run: made once, read by everybody, made again where it is damaged."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from saddlebag.launch.build import build_problem
from saddlebag.launch.data.cache import CACHE, Cache
from saddlebag.launch.recipe.recipe import recipe_from_dict

if TYPE_CHECKING:
    from pathlib import Path


def test_whoever_comes_first_makes_it(tmp_path: Path) -> None:
    made: list[str] = []
    barrier = threading.Barrier(4)

    def make(key: str) -> bytes:
        made.append(key)
        return key.encode() * 1000

    def ask() -> None:
        barrier.wait()
        for key in ("one", "two"):
            assert Cache(tmp_path / "cache")(key, lambda key=key: make(key)) == key.encode() * 1000  # type: ignore[misc]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == ["one", "two"]


@pytest.mark.parametrize("damage", [b"", b"x" * 10, b"y" * 5000])
def test_damage_is_noticed(tmp_path: Path, damage: bytes) -> None:
    cache = Cache(tmp_path)
    cache("key", lambda: b"old")
    (kept,) = (file for file in tmp_path.iterdir() if file.name != "lock")
    kept.write_bytes(damage)
    assert cache("key", lambda: b"new") == b"new"
    assert cache("key", lambda: b"never") == b"new"
    assert cache("", lambda: b"") == b""


def test_a_problem_of_text_is_the_same_from_its_cache(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    source = tmp_path / "corpus.txt"
    source.write_text("\n".join(f"word number {number % 7} and so on" for number in range(80)))
    problem = {"name": "albert_mlm", "vocabulary": 70, "length": 8, "batch_size": 2}
    table: dict[str, Any] = {"workers": 2, "problem": problem, "data": {"source": str(source)}, "stop": {"max_rounds": 1}}
    recipe = recipe_from_dict({**table, "method": {"name": "compressed_sgd", "step_size": 0.1}})
    found: list[Any] = [build_problem(recipe, out=out) for out in (None, tmp_path, tmp_path)]
    assert len([file for file in (tmp_path / CACHE).iterdir() if file.name != "lock"]) == 3  # vocabulary, two sets of rows
    for problem in found[1:]:
        assert problem.vocabulary.tokenizer.to_str() == found[0].vocabulary.tokenizer.to_str()
        assert all((ours[0] == theirs[0]).all() for ours, theirs in zip(problem.data, found[0].data, strict=True))
        assert (problem.evaluate.rows_NT == found[0].evaluate.rows_NT).all()
