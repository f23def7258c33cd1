"""What plug-ins may have beside their contract: Protocols, and the search for attributes that none of them knows.

A contract is what every plug-in of a kind has. A *capability* is a small Protocol for what some of them can do as well; it
stands beside the contract that it extends, and callers ask for it by `isinstance`. So a misspelt attribute is an error of the
checks (`check_compressor`, `check_method`, `check_learner`), not one that is silently ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["members", "require_known"]


def members(protocol: type) -> frozenset[str]:
    """The public names that a Protocol asks for, those of the Protocols that it extends included."""
    found: set[str] = set()
    for kind in protocol.__mro__:
        if Protocol in kind.__bases__:
            found |= {name for name in (*vars(kind), *vars(kind).get("__annotations__", {})) if not name.startswith("_")}
    return frozenset(found)


def require_known(plugin: object, known: Iterable[type]) -> None:
    """Check that every public attribute of a plug-in is a field of its dataclass or known to one of the Protocols.

    Raises:
        AssertionError: naming the attributes, with the nearest known name.
    """
    names = {name for protocol in known for name in members(protocol)}
    fields = {field.name for field in dataclasses.fields(plugin)} if dataclasses.is_dataclass(plugin) else set()
    own = {name for name in dir(plugin) if not name.startswith("_")}
    for name in sorted(own - fields - names):
        near = difflib.get_close_matches(name, sorted(names), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise AssertionError(
            f"{type(plugin).__name__}.{name}: no capability has this name; {hint}"
            f"what only the class itself uses begins with an underscore. Known: {', '.join(sorted(names))}"
        )
