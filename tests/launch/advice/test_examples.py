from __future__ import annotations

from typing import Any

import pytest

from saddlebag.compression import COMPRESSORS, Identity, TopK
from saddlebag.launch.advice.examples import EXAMPLES, example_of, settings_of
from saddlebag.launch.advice.listing import entries
from saddlebag.launch.recipe import plugins


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_table_names_compressors_and_parameters_that_exist(name: str) -> None:
    assert name in COMPRESSORS
    assert settings_of(name) == EXAMPLES[name], "one that cannot be made is left out"
    example = example_of(name)
    assert example is not None
    assert example.bits(1_000_000) > 0


class _WithExamples(TopK):
    examples = ({"k": 3}, {"k": 5})


class _Odd:
    """Declares nothing and fits no vector."""

    reference = None

    def bits(self, d: int) -> float:
        raise ZeroDivisionError


def test_what_other_packages_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: dict[str, Any] = {"with": _WithExamples, "without": TopK, "bare": Identity, "odd": _Odd}
    monkeypatch.setitem(plugins.REGISTRIES, "compressors", registry)
    assert settings_of("with") == ({"k": 3}, {"k": 5})
    assert example_of("with") == _WithExamples(k=3)
    assert settings_of("without") == (), "top_k needs k or fraction, and nobody gave one"
    assert example_of("bare") == Identity()
    rows = {row["name"]: row for row in entries("compressors")}
    assert (rows["with"]["example"], rows["with"]["alpha"]) == ("k=3", 3e-6)
    assert (rows["without"]["kind"], rows["without"]["example"], rows["without"]["alpha"]) == ("contractive", None, None)
    assert (rows["odd"]["kind"], rows["odd"]["example"], rows["odd"]["bits_per_coordinate"]) == ("not known", "", None)
