"""The table of contracts and capabilities has every Protocol that a plug-in may meet, and is current."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

from saddlebag.algorithms import check, methods, optimizers
from saddlebag.algorithms.base import Method
from saddlebag.algorithms.groupwise.base import Learner
from saddlebag.algorithms.groupwise.check import CAPABILITIES as OF_LEARNERS
from saddlebag.capabilities import members
from saddlebag.compression.base import CAPABILITIES as OF_COMPRESSORS

ROOT = Path(__file__).parents[2]


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("contracts", ROOT / "benchmarks" / "contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contracts = _script()


def test_the_table_is_current() -> None:
    text = contracts.PAGE.read_text(encoding="utf-8")
    assert text == contracts.page(text), "run 'make contracts'"


def test_every_protocol_stands_in_the_table_or_is_one_between_parts() -> None:
    listed = [name for names in contracts.KINDS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(contracts.protocols()) == {*listed, *contracts.INSIDE}


def test_the_checks_know_what_the_table_says() -> None:
    kinds = contracts.KINDS
    assert {each.__name__ for each in OF_COMPRESSORS} == set(kinds["a compressor"])
    assert {each.__name__ for each in (Method, *check.CAPABILITIES)} == set(kinds["a method"])
    assert {each.__name__ for each in (Learner, *OF_LEARNERS)} == set(kinds["a learner"])


def test_a_method_has_nine_members() -> None:
    assert len(members(Method)) == 9


def _shipped() -> list[type]:
    modules = [
        importlib.import_module(found.name)
        for package in (methods, optimizers)
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ]
    return [
        each
        for module in modules
        for _, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and "worker_step" in dir(each)
    ]


@pytest.mark.parametrize("kind", _shipped(), ids=lambda kind: kind.__name__)
def test_our_methods_have_no_public_attribute_that_no_protocol_knows(kind: type) -> None:
    known = {name for protocol in (Method, *check.CAPABILITIES) for name in members(protocol)}
    fields = {field.name for field in dataclasses.fields(kind)}
    assert {name for name in dir(kind) if not name.startswith("_")} <= known | fields
