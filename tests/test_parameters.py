"""Signatures as tables of parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict, Unpack

from saddlebag.parameters import owners_of, parameters_of

if TYPE_CHECKING:
    from saddlebag.compression import Compressor


@dataclasses.dataclass
class Plain:
    weight: float
    kind: str = "a"


class Keys(TypedDict, total=False):
    rate: float
    kind: Annotated[Literal["a", "b"], Plain]
    count: int


def declared(first: int, *, up: Compressor, **keys: Unpack[Keys]) -> None: ...


def open_ended(**rest: Any) -> None: ...


def test_keys_behind_two_stars_are_parameters_with_types() -> None:
    found = parameters_of(declared)
    assert list(found) == ["first", "up", "rate", "kind", "count"]
    assert found["rate"].annotation is float
    assert found["kind"].annotation == Literal["a", "b"]
    assert (found["rate"].default, found["kind"].default) == (None, "a"), "that of the dataclass's field, where one is named"
    assert found["first"].default is found["first"].empty
    assert found["up"].annotation == "Compressor", "a name for type checkers alone stays text"


def test_two_stars_without_types_stay_open() -> None:
    assert parameters_of(open_ended)["rest"].kind is parameters_of(open_ended)["rest"].VAR_KEYWORD


def test_a_dataclass_takes_its_fields() -> None:
    found = parameters_of(Plain)
    assert {name: parameter.annotation for name, parameter in found.items()} == {"weight": float, "kind": str}
    assert found["kind"].default == "a"


def test_a_key_of_a_dataclass_is_documented_there() -> None:
    assert owners_of(declared) == {"kind": Plain}
    assert owners_of(open_ended) == {}


def test_a_factory_may_begin_elsewhere_than_the_dataclass_that_its_keys_name() -> None:
    """Only where the dataclass is derived from that one: keys of other groups keep theirs."""
    from saddlebag.algorithms.networks.texts.albert_mlm import albert_mlm
    from saddlebag.algorithms.networks.texts.albert_sst2 import albert_sst2

    first, second = (
        {name: each.default for name, each in parameters_of(factory).items()} for factory in (albert_mlm, albert_sst2)
    )
    assert {name: (first[name], second[name]) for name in first.keys() & second.keys() if first[name] != second[name]} == {
        "batch_size": (8, 16),
        "length": (0, 64),
        "dropout": (0.0, 0.1),
        "judged": (256, 1000),
    }
