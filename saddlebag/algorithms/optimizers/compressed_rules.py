"""The optimizers of `compressed.py` by their rules' names, and what a recipe may set of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Unpack, get_args

from saddlebag.algorithms.optimizers.compressed import CompressedOptimizer, MemoryKind
from saddlebag.algorithms.optimizers.keys import AdamKeys, MomentumKeys, OptimisticAdamKeys
from saddlebag.algorithms.optimizers.narrow import Precision, require_network
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.replica import ReplicaKeys, split_parameters
from saddlebag.algorithms.optimizers.rules import make_rule
from saddlebag.errors import ConfigError, check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.algorithms.base import Problem
    from saddlebag.compression import Compressor

__all__ = [
    "compressed_adamw",
    "compressed_extra_adam",
    "compressed_lamb",
    "compressed_optimistic_adam",
    "compressed_sgd",
]


class ExchangeKeys(ReplicaKeys, total=False):
    """What may be set of an exchange."""

    memory: Annotated[MemoryKind, CompressedOptimizer]
    momentum_up: Annotated[float, CompressedOptimizer]
    clip_estimate: Annotated[float, CompressedOptimizer]
    late: Annotated[bool, CompressedOptimizer]
    precision: Annotated[Precision, CompressedOptimizer]
    common_range: Annotated[float, CompressedOptimizer]
    common_fraction: Annotated[float, CompressedOptimizer]
    level_clip: Annotated[float, CompressedOptimizer]


class AdamExchange(AdamKeys, ExchangeKeys, total=False):
    """The keys of AdamW and LAMB."""


class OptimisticExchange(OptimisticAdamKeys, ExchangeKeys, total=False):
    """The keys of optimistic and extra Adam."""


class MomentumExchange(MomentumKeys, ExchangeKeys, total=False):
    """The keys of SGD."""


def _compressed(
    rule: str, problem: Problem, up: Compressor, down: Compressor, step_size: float | None, keys: Mapping[str, Any]
) -> CompressedOptimizer:
    """The method of a rule by its name; `keys` are the rule's and the exchange's."""
    if step_size is None:
        raise ConfigError(f"compressed_{rule} is outside the theory and has no proven step; give method.step_size a number")
    of_rule, others = split_parameters(rule, keys)
    made = make_rule(rule, problem, of_rule)
    kind = _kind(f"compressed_{rule}", problem, others.get("precision", "float64"))
    return kind(step_size=step_size, up=up, down=down, prox=problem.prox, rule=made, **others)


def _kind(name: str, problem: Problem, precision: Precision) -> type[CompressedOptimizer]:
    """The class whose states are of this precision."""
    check_choice("precision", precision, get_args(Precision))
    if precision == "float64":
        return CompressedOptimizer
    require_network(name, problem)
    return NarrowOptimizer


def compressed_adamw(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **keys: Unpack[AdamExchange]
) -> CompressedOptimizer:
    """AdamW fed by compressed exchanges with memories; see `CompressedOptimizer`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "compressed_adamw", game, step_size=0.05, up=sb.make_compressor("top_k", k=5), down="identity"
        ... )
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=200)).merits["relative_error"] < 0.5
        True
    """
    return _compressed("adamw", problem, up, down, step_size, keys)


def compressed_extra_adam(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **keys: Unpack[OptimisticExchange]
) -> CompressedOptimizer:
    """Extra Adam (extrapolation from the past) fed by compressed exchanges with memories; see `CompressedOptimizer`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "compressed_extra_adam", game, step_size=0.1, up=sb.make_compressor("top_k", k=5), down="identity"
        ... )
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=200)).merits["relative_error"] < 0.05
        True
    """
    return _compressed("extra_adam", problem, up, down, step_size, keys)


def compressed_lamb(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **keys: Unpack[AdamExchange]
) -> CompressedOptimizer:
    """LAMB fed by compressed exchanges with memories; see `CompressedOptimizer`.

    Example:
        >>> import torch
        >>> import saddlebag as sb
        >>> def line():
        ...     module = torch.nn.Linear(1, 1, bias=False)
        ...     torch.nn.init.ones_(module.weight)
        ...     return {"line": module}
        >>> x = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(8, 1)
        >>> game = sb.ModuleGame(
        ...     build=line,
        ...     loss=lambda players, batch, chance: (players["line"](batch[0]) - 2 * batch[0]).square().mean(),
        ...     data=((x[:4],), (x[4:],)),
        ...     precision="float64",
        ... )
        >>> method = sb.make_method("compressed_lamb", game, step_size=0.02, up="identity", down="identity")
        >>> run = sb.simulate(game, method, stop=sb.Stop(max_rounds=100))
        >>> abs(float(run.z[0]) - 2.0) < 0.1  # each step is a part of |z|
        True
    """
    return _compressed("lamb", problem, up, down, step_size, keys)


def compressed_optimistic_adam(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **keys: Unpack[OptimisticExchange]
) -> CompressedOptimizer:
    """Optimistic Adam fed by compressed exchanges with memories; see `CompressedOptimizer`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "compressed_optimistic_adam", game, step_size=0.1, up=sb.make_compressor("top_k", k=5), down="identity"
        ... )
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=200)).merits["relative_error"] < 0.05
        True
    """
    return _compressed("optimistic_adam", problem, up, down, step_size, keys)


def compressed_sgd(
    problem: Problem, *, up: Compressor, down: Compressor, step_size: float | None = None, **keys: Unpack[MomentumExchange]
) -> CompressedOptimizer:
    """SGD with momentum fed by compressed exchanges with memories; see `CompressedOptimizer`.

    Example:
        >>> import saddlebag as sb
        >>> game = sb.make_problem("bilinear", n=5, workers=2, regularisation=0.2)
        >>> method = sb.make_method(
        ...     "compressed_sgd", game, step_size=0.1, up=sb.make_compressor("top_k", k=5), down="identity", momentum=0.0
        ... )
        >>> sb.simulate(game, method, stop=sb.Stop(max_rounds=200)).merits["relative_error"] < 0.05
        True
    """
    return _compressed("sgd", problem, up, down, step_size, keys)
