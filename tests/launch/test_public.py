"""Every public name and every factory of a registry says what it is for, with an example that runs."""

from __future__ import annotations

import doctest
import inspect
import sys
from typing import Any

import pytest

import saddlebag as sb
from saddlebag.launch.recipe.plugins import REGISTRIES

WITHOUT = {
    "ConfigError": "what raises it says so",
    "DataError": "as ConfigError",
    "LocalProtocolError": "as ConfigError",
    "NotFiniteError": "as ConfigError",
    "PeerLost": "as ConfigError",
    "RemoteProtocolError": "as ConfigError",
    "SaddlebagError": "as ConfigError",
    "StateError": "as ConfigError",
    "GroupwiseClient": "it needs a service; docs/groupwise.md has a session",
    "ShardedClient": "as GroupwiseClient",
    "__version__": "a text",
}
"""Public names without an example, and why."""

PUBLIC = [name for name in sb.__all__ if name not in WITHOUT]
FACTORIES = [
    pytest.param(factory, id=f"{kind}-{name}")
    for kind, registry in REGISTRIES.items()
    for name, factory in registry.items()
    if factory.__module__.startswith("saddlebag.")
]


def examples_of(thing: Any) -> list[doctest.DocTest]:
    """The examples in a docstring, and in that of the class whose factory it is; ready to run where it stands."""
    owner = getattr(thing, "__self__", None)
    found = [each for each in (thing, owner) if each is not None and ">>>" in (each.__doc__ or "")]
    names = vars(sys.modules[inspect.unwrap(thing).__module__])
    return [
        test for each in found for test in doctest.DocTestFinder(recurse=False).find(each, thing.__name__, globs=dict(names))
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    assert examples_of(getattr(sb, name)), f"saddlebag.{name} has no example"


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_factory_has_an_example(factory: Any) -> None:
    assert examples_of(factory), f"{factory} has no example"


@pytest.mark.parametrize("name", ["ModuleGame", "attach", "simulate", "make_problem"])
def test_examples_outside_the_pure_packages_run(name: str) -> None:
    for example in examples_of(getattr(sb, name)):
        assert doctest.DocTestRunner().run(example).failed == 0
