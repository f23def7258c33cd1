"""The Python interface: make a problem and a method by name, run them in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.averages.means import PLAIN, mean_for
from saddlebag.algorithms.averages.robust import ContributionMean
from saddlebag.algorithms.problems import Dataset
from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.algorithms.registry import default_compressors, takes_compressors
from saddlebag.algorithms.registry import make_method as _make_method
from saddlebag.algorithms.simulate import Record, Stop
from saddlebag.algorithms.simulate import simulate as _simulate
from saddlebag.errors import ConfigError
from saddlebag.launch.build import step_number
from saddlebag.launch.data.arrays import from_memory
from saddlebag.launch.data.pretrained import with_weights
from saddlebag.launch.data.readers import read_data
from saddlebag.launch.recipe.fields import fit
from saddlebag.launch.recipe.plugins import REGISTRIES, find, load_plugins
from saddlebag.launch.recipe.sections import DataSection
from saddlebag.launch.results.outcome import Outcome
from saddlebag.parameters import parameters_of
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.base import AnyMethod, Problem
    from saddlebag.algorithms.groupwise.base import AnyLearner, AnyMixer
    from saddlebag.compression.base import Compressor

__all__ = [
    "list_compressors",
    "list_learners",
    "list_methods",
    "list_mixers",
    "list_problems",
    "make_compressor",
    "make_learner",
    "make_method",
    "make_mixer",
    "make_problem",
    "simulate",
]

_MAX_ROUNDS = 1_000_000  # a merit alone may never be reached
_TARGET, _DEFAULT_ROUNDS = 1e-6, 20_000  # of a run without a stop
_WORKERS = 4  # of a problem that has no number of its own


def make_problem(
    name: str, *, workers: int | None = None, seed: int = 0, data: Any = None, target: str = "", **params: Any
) -> Problem:
    """Build a problem by its name.

    Args:
        name: as `list_problems` has it.
        workers: how many share it; else the number of shards, the problem's own default, or 4.
        seed: of the problem (its construction, the split of its rows), not of a run.
        data: the name of a bundled set ("breast_cancer", "diabetes", "digits"), the path of a file, arrays `(X, y)` of shapes
            (N, F) and (N,), dense or sparse, a DataFrame of pandas or Table of pyarrow, a `Dataset` or `DataLoader` of torch
            with samples (x, y), or a list of such, one for each worker. Exactly two different labels become -1 and +1, in their
            order; others are numbers to regress on.
        target: the column of labels in a table or frame; the last one by default.
        **params: the problem's own parameters.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.
        DataError: the file is missing or malformed, or the arrays do not fit each other.

    Example:
        >>> import numpy as np
        >>> rows_NF = np.random.default_rng(0).standard_normal((40, 3))
        >>> problem = make_problem("robust_logistic", data=(rows_NF, rows_NF[:, 0] > 0), workers=2)
        >>> problem.dimension, problem.num_workers  # a weight for each feature and the bias, and one for each row
        (44, 2)
    """
    factory = find("problems", name, "problem")
    known = parameters_of(factory)
    params |= {"seed": seed} if seed or "seed" in known else {}
    dataset = (
        read_data(factory, DataSection(source=data, target=target)) if isinstance(data, str) else from_memory(data, target)
    )
    shards = dataset.shards if isinstance(dataset, Dataset) else None
    if workers is None and shards is not None:
        workers = len(shards)
    if workers is None and "num_workers" in known and known["num_workers"].default is known["num_workers"].empty:
        workers = _WORKERS
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    params |= {} if workers is None else {"num_workers": workers}
    problem: Problem = factory(dataset, **with_weights(factory, fit(factory, params, name, given=("data",))))
    return problem


def make_compressor(name: str, **params: Any) -> Compressor:
    """Build a compressor by its name, as `list_compressors` has it.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.

    Example:
        >>> make_compressor("top_k", k=10).alpha(1000)
        0.01
    """
    factory = find("compressors", name, "compressor")
    compressor: Compressor = factory(**fit(factory, params, name))
    return compressor


def make_method(
    name: str,
    problem: Problem,
    *,
    up: Compressor | str | Mapping[str, Any] | None = None,
    down: Compressor | str | Mapping[str, Any] | None = None,
    step_size: float | str | None = None,
    **params: Any,
) -> AnyMethod:
    """Build a method for a problem.

    Args:
        name: as `list_methods` has it.
        problem: its constants give the step size, its prox is used.
        up: compressor of the workers, its name, or a table such as a recipe's, `{"name": "grid", "step": 0.5}`; by default what
            the method is for, such as the grids of `innovations` that set themselves, or else identity.
        down: the same of the server.
        step_size: a number, "auto", a multiple of 1/L such as "0.35/L", "theory" (also None): the step that is proven, from the
            problem's constants; or "estimate": the same with constants that are estimated from operator values, see
            `saddlebag.algorithms.problems.estimate`.
        **params: the method's own parameters.

    Raises:
        ConfigError: a method and a compressor do not fit each other, or a parameter is unknown or out of range.

    Example:
        >>> game = make_problem("bilinear", n=10, workers=2)
        >>> method = make_method("innovations", game, step_size="auto", up="grid", down="grid")
        >>> simulate(game, method).reason
        'merit'
    """
    find("methods", name, "method")
    if step_size == "estimate":
        problem = with_constants(problem, estimate_constants(problem))
    elif step_size not in (None, "theory"):
        params["step_size"] = step_number(step_size, problem)
    sides = {}
    for side, compressor in (("up", up), ("down", down)):
        if compressor is None and takes_compressors(name):
            compressor = default_compressors(name).get(side, "identity")
        sides[side] = _as_compressor(compressor, side)
    return _make_method(name, problem, **sides, **params)


def _as_compressor(given: Any, side: str) -> Any:
    """A compressor, of which a name or a table may be given."""
    table = {"name": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        return given
    if not isinstance(table.get("name"), str):
        raise ConfigError(f"{side} must name a compressor, such as {{'name': 'grid'}}, got {dict(table)!r}")
    return make_compressor(**table)


def make_learner(name: str, dimension: int, **params: Any) -> AnyLearner:
    """Build an online learner by its name, as `list_learners` has it; one instance serves all groups.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.

    Example:
        >>> make_learner("ridge", 3, penalty=2.0).dimension
        3
    """
    factory = find("learners", name, "learner")
    learner: AnyLearner = factory(**fit(factory, {"dimension": dimension, **params}, name))
    return learner


def make_mixer(name: str, **params: Any) -> AnyMixer:
    """Build a mixer of sleeping experts by its name, as `list_mixers` has it.

    Raises:
        ConfigError: the name or a parameter is unknown or out of range.

    Example:
        >>> make_mixer("ada_normal_hedge")
        AdaNormalHedge(loss_range=1.0)
    """
    factory = find("mixers", name, "mixer")
    mixer: AnyMixer = factory(**fit(factory, params, name))
    return mixer


def list_problems() -> list[str]:
    """The names that `make_problem` takes; `saddlebag list problems` shows their parameters.

    Example:
        >>> "bilinear" in list_problems()
        True
    """
    return _names("problems")


def list_methods() -> list[str]:
    """The names that `make_method` takes; `saddlebag list methods` shows their parameters.

    Example:
        >>> "innovations" in list_methods()
        True
    """
    return _names("methods")


def list_compressors() -> list[str]:
    """The names that `make_compressor` takes; `saddlebag list compressors` shows their parameters.

    Example:
        >>> "top_k" in list_compressors()
        True
    """
    return _names("compressors")


def list_learners() -> list[str]:
    """The names that `make_learner` takes.

    Example:
        >>> "ridge" in list_learners()
        True
    """
    return _names("learners")


def list_mixers() -> list[str]:
    """The names that `make_mixer` takes.

    Example:
        >>> "ada_normal_hedge" in list_mixers()
        True
    """
    return _names("mixers")


def _names(kind: str) -> list[str]:
    load_plugins()
    return sorted(REGISTRIES[kind])


def simulate(
    problem: Problem,
    method: AnyMethod | str,
    *,
    seed: int = 0,
    stop: Stop | float | None = None,
    every: int = 1,
    observe: Callable[[Record], None] | None = None,
    mean: str | dict[str, Any] = PLAIN,
) -> Outcome:
    """Run a method in this process: the trajectory and the byte counts of a run over gRPC, bit for bit.

    Args:
        problem: what to solve.
        method: built for it; or a name, for `make_method` with nothing else.
        seed: of coins, supports and rounding.
        stop: when to end; a number is the merit to reach (within a million rounds). Without one: a merit of 1e-6, or 20,000
            rounds.
        every: iterations between evaluations of the merit, where `stop` is no `Stop`, which has its own.
        observe: called with each record of the history.
        mean: "mean", or a rule that bears bad workers, such as { name = "trimmed_mean", fraction = 0.3 } as a dict.

    Returns:
        The last iterate, the reason for stopping, bytes, and the history.

    Raises:
        ConfigError: `stop` is a whole number, which could mean rounds, or not positive; there is no such method or rule.

    Example:
        >>> game = make_problem("bilinear", n=10, workers=2)
        >>> simulate(game, make_method("extragradient", game, step_size="auto"), stop=Stop(max_rounds=50, every=5)).rounds
        50
    """
    if isinstance(stop, int):
        raise ConfigError(f"stop={stop} could mean a merit or rounds; say Stop(max_rounds={stop}), or a float for a merit")
    if not isinstance(stop, Stop):
        limit = _DEFAULT_ROUNDS if stop is None else _MAX_ROUNDS
        stop = Stop(merit=_TARGET if stop is None else stop, max_rounds=limit, every=every)
    method = make_method(method, problem) if isinstance(method, str) else method
    rule = mean_for(method, mean, "mean")
    ways: dict[str, Any] = {"rule": rule, "scored": isinstance(rule, ContributionMean)}
    ended = _simulate(problem, method, seed=seed, stop=stop, wire=LoopbackWire(), observe=observe, clock=time.monotonic, **ways)
    facts = (ended.replica, ended.rounds, ended.reason, ended.up_bytes, ended.down_bytes, ended.history)
    return Outcome(*facts, start=problem.merits(problem.start()), workers=problem.num_workers, target=stop.merit)
