"""Methods and problems by name: ours, which the two files `catalogue.py` list, and those of plug-ins. It knows none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.agreed.auto_step import Steerable, automatic
from saddlebag.algorithms.capabilities import HasLocalBlocks
from saddlebag.algorithms.local_blocks import with_local_blocks
from saddlebag.algorithms.method_capabilities import BringsCompressors
from saddlebag.compression.registry import make_compressor
from saddlebag.errors import ConfigError
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import AnyMethod, Problem
    from saddlebag.compression import Compressor

__all__ = ["METHODS", "PROBLEMS", "Factory", "make_method", "takes_compressors"]

METHODS: dict[str, Callable[..., AnyMethod]] = {}
"""Name -> factory(problem, **parameters); filled when `saddlebag.algorithms` is imported."""

Factory = Callable[..., "Problem"]
"""factory(data: Dataset | None, *, num_workers: int, **params) -> Problem; raises `ConfigError`."""

PROBLEMS: dict[str, Factory] = {}
"""Name -> factory; filled when `saddlebag.algorithms.problems` is imported."""


def takes_compressors(name: str) -> bool:
    """Whether the method has an `up` and a `down` compressor.

    Example:
        >>> from saddlebag.algorithms import takes_compressors
        >>> takes_compressors("masha1"), takes_compressors("extragradient")
        (True, False)
    """
    return "up" in parameters_of(METHODS[name])


def default_compressors(name: str) -> Mapping[str, Mapping[str, Any]]:
    """The compressors that a method is for, as tables by "up" and "down"; none for most methods."""
    factory: object = METHODS[name]
    return factory.compressors if isinstance(factory, BringsCompressors) else {}


def make_method(
    name: str, problem: Problem, *, up: Compressor | None = None, down: Compressor | None = None, **params: Any
) -> AnyMethod:
    """Build a method for a problem by its registered name; step sizes that are not given come from the theory.

    Raises:
        ConfigError: the name is unknown, a compressor is missing or of the wrong kind, or a parameter does not fit.

    Where the problem `HasLocalBlocks`, workers keep blocks of their own (`local_blocks.py`).

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> round(make_method("extragradient", game).step_size * game.constants.lipschitz, 3)  # the theory's 1/(2L)
        0.5
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}; known: {', '.join(sorted(METHODS))}")
    if takes_compressors(name):
        known_compressors = default_compressors(name)
        up = make_compressor(**known_compressors["up"]) if up is None and "up" in known_compressors else up
        down = make_compressor(**known_compressors["down"]) if down is None and "down" in known_compressors else down
        if up is None or down is None:
            raise ConfigError(f"method {name!r} needs compressors up and down")
        params |= {"up": up, "down": down}
    elif up is not None or down is not None:
        raise ConfigError(f"method {name!r} takes no compressors up or down")
    known = sorted(parameters_of(METHODS[name]).keys() - {"problem", "up", "down"})
    for key in params:
        if key not in (*known, "up", "down"):
            raise ConfigError(f"method {name!r} has no parameter {key!r}; known: {', '.join(known)}")
    step_size = params.get("step_size")
    if isinstance(step_size, str):
        method = METHODS[name](problem, **(params | {"step_size": 1.0}))
        if not isinstance(method, Steerable):
            raise ConfigError(f"method {name!r} has no automatic step size; give method.step_size a number")
        method = automatic(method, step_size, problem)
    else:
        method = METHODS[name](problem, **params)
    return with_local_blocks(method) if isinstance(problem, HasLocalBlocks) and problem.local is not None else method
