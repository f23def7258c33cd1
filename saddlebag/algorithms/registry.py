"""The methods by name: what a recipe may ask for, and which of them compress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.auto_step import Steerable, automatic
from saddlebag.algorithms.capabilities import BringsCompressors, HasLocalBlocks
from saddlebag.algorithms.local_blocks import with_local_blocks
from saddlebag.algorithms.methods.compressed_extragradient import compressed_extragradient
from saddlebag.algorithms.methods.diana_sgda import diana_sgda
from saddlebag.algorithms.methods.diloco import diloco
from saddlebag.algorithms.methods.extragradient import extragradient
from saddlebag.algorithms.methods.extragradient_feedback import extragradient_feedback
from saddlebag.algorithms.methods.forward_backward_forward import forward_backward_forward
from saddlebag.algorithms.methods.innovations import innovations
from saddlebag.algorithms.methods.local_average import local_average
from saddlebag.algorithms.methods.local_sgda import local_sgda
from saddlebag.algorithms.methods.masha1 import masha1
from saddlebag.algorithms.methods.masha2 import masha2
from saddlebag.algorithms.methods.muloco import muloco
from saddlebag.algorithms.methods.ogda import ogda
from saddlebag.algorithms.methods.optimistic_masha import optimistic_masha
from saddlebag.algorithms.methods.qsgda import qsgda
from saddlebag.algorithms.methods.sparse_loco import sparse_loco
from saddlebag.algorithms.methods.three_pillars import three_pillars
from saddlebag.algorithms.methods.vr_diana_sgda import vr_diana_sgda
from saddlebag.algorithms.optimizers.compressed import (
    compressed_adamw,
    compressed_extra_adam,
    compressed_lamb,
    compressed_optimistic_adam,
    compressed_sgd,
)
from saddlebag.algorithms.optimizers.power_sgd import power_sgd
from saddlebag.compression.registry import make_compressor
from saddlebag.errors import ConfigError
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from saddlebag.algorithms.base import AnyMethod, Problem
    from saddlebag.compression import Compressor

__all__ = ["METHODS", "default_compressors", "make_method", "takes_compressors"]

METHODS: dict[str, Callable[..., AnyMethod]] = {
    "compressed_adamw": compressed_adamw,
    "compressed_extra_adam": compressed_extra_adam,
    "compressed_extragradient": compressed_extragradient,
    "compressed_lamb": compressed_lamb,
    "compressed_optimistic_adam": compressed_optimistic_adam,
    "compressed_sgd": compressed_sgd,
    "diana_sgda": diana_sgda,
    "diloco": diloco,
    "extragradient": extragradient,
    "extragradient_feedback": extragradient_feedback,
    "forward_backward_forward": forward_backward_forward,
    "innovations": innovations,
    "local_average": local_average,
    "local_sgda": local_sgda,
    "masha1": masha1,
    "masha2": masha2,
    "muloco": muloco,
    "ogda": ogda,
    "optimistic_masha": optimistic_masha,
    "power_sgd": power_sgd,
    "qsgda": qsgda,
    "sparse_loco": sparse_loco,
    "three_pillars": three_pillars,
    "vr_diana_sgda": vr_diana_sgda,
}


def takes_compressors(name: str) -> bool:
    """Whether the method has an `up` and a `down` compressor."""
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
