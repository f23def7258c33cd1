"""The Python interface: make a problem and a method, run them in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.algorithms.registry import make_method as _make_method
from saddlebag.algorithms.registry import takes_compressors
from saddlebag.algorithms.simulate import Outcome, Record, Stop
from saddlebag.algorithms.simulate import simulate as _simulate
from saddlebag.launch.build import step_number
from saddlebag.launch.data.readers import read_data
from saddlebag.launch.recipe.fields import fit, parameters_of
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.recipe.sections import DataSection
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.base import AnyMethod, Problem
    from saddlebag.compression.base import Compressor

__all__ = ["make_compressor", "make_method", "make_problem", "simulate"]

_MAX_ROUNDS = 1_000_000  # a merit alone may never be reached


def make_problem(name: str, *, workers: int | None = None, seed: int = 0, data: Any = None, **params: Any) -> Problem:
    """Build a problem by its name.

    Args:
        name: as `saddlebag list problems` shows it.
        workers: how many share it; the problem's default if it has one.
        seed: of the problem (its construction, the split of its rows), not of a run.
        data: a data set, the name of a bundled one ("breast_cancer", "diabetes", "digits"), or the path of a file.
        **params: the problem's own parameters.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.
        DataError: the file is missing or malformed.
    """
    factory = find("problems", name, "problem")
    params |= {"seed": seed} if seed or "seed" in parameters_of(factory) else {}
    params |= {} if workers is None else {"num_workers": workers}
    dataset = read_data(factory, DataSection(source=data)) if isinstance(data, str) else data
    problem: Problem = factory(dataset, **fit(factory, params, name, given=("data",)))
    return problem


def make_compressor(name: str, **params: Any) -> Compressor:
    """Build a compressor by its name, as `saddlebag list compressors` shows it.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.
    """
    factory = find("compressors", name, "compressor")
    compressor: Compressor = factory(**fit(factory, params, name))
    return compressor


def make_method(
    name: str,
    problem: Problem,
    *,
    up: Compressor | str | None = None,
    down: Compressor | str | None = None,
    step_size: float | str | None = "theory",
    **params: Any,
) -> AnyMethod:
    """Build a method for a problem.

    Args:
        name: as `saddlebag list methods` shows it.
        problem: its constants give the step size, its prox is used.
        up: compressor of the workers, or its name; identity by default, for methods that take one.
        down: the same of the server.
        step_size: a number, "theory", "auto", a multiple of 1/L such as "0.35/L", or "estimate" (also None): the theory with
            constants that are estimated from operator values, see `saddlebag.algorithms.problems.estimate`.
        **params: the method's own parameters.

    Raises:
        ConfigError: a method and a compressor do not fit each other, or a parameter is unknown or out of range.
    """
    find("methods", name, "method")
    if step_size in (None, "estimate"):
        problem = with_constants(problem, estimate_constants(problem))
    elif step_size is not None and step_size != "theory":
        params["step_size"] = step_number(step_size, problem)
    sides = {}
    for side, compressor in (("up", up), ("down", down)):
        if compressor is None and takes_compressors(name):
            compressor = "identity"
        sides[side] = make_compressor(compressor) if isinstance(compressor, str) else compressor
    return _make_method(name, problem, **sides, **params)


def simulate(
    problem: Problem,
    method: AnyMethod,
    *,
    seed: int = 0,
    stop: Stop | float,
    every: int = 1,
    observe: Callable[[Record], None] | None = None,
) -> Outcome:
    """Run a method in this process: the trajectory and the byte counts of a run over gRPC, bit for bit.

    Args:
        problem: what to solve.
        method: built for it.
        seed: of coins, supports and rounding.
        stop: when to end; a number is the merit to reach (within a million rounds).
        every: iterations between evaluations of the merit, where `stop` is a number.
        observe: called with each record of the history.

    Returns:
        The last iterate, the reason for stopping, bytes summed over the workers, and the history.
    """
    if not isinstance(stop, Stop):
        stop = Stop(merit=stop, max_rounds=_MAX_ROUNDS, every=every)
    return _simulate(problem, method, seed=seed, stop=stop, wire=LoopbackWire(), observe=observe)
