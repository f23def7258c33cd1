"""From a recipe to objects: the problem, the method, and the numbers that a theory gave."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep
from saddlebag.algorithms.agreed.common_grid import require_shared
from saddlebag.algorithms.averages.means import require_robust
from saddlebag.algorithms.base import Message
from saddlebag.algorithms.capabilities import HasNotes, HasTensors
from saddlebag.algorithms.method_capabilities import Compresses, HasProbability, HasStepSize
from saddlebag.algorithms.networks.texts.text import Sentences, Text
from saddlebag.algorithms.problems.data.rows import Dataset
from saddlebag.algorithms.problems.division import divided
from saddlebag.algorithms.problems.estimate import estimate_constants, with_constants
from saddlebag.algorithms.registry import make_method
from saddlebag.algorithms.wrapped import unwrapped
from saddlebag.compression import Dense, Draws, Grid
from saddlebag.compression.base import Adaptive, jointly
from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.launch.data.cache import CACHE, Cache
from saddlebag.launch.data.pretrained import with_weights
from saddlebag.launch.data.readers import read_data
from saddlebag.launch.recipe.fields import at
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.recipe.sections import CompressorSection, MethodSection, parse_step_size
from saddlebag.launch.recipe.toml import inline
from saddlebag.parameters import parameters_of
from saddlebag.proto.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from saddlebag.algorithms.base import AnyMethod, Problem
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.combinators.per_tensor import Tensor
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = [
    "apply_resolved",
    "build_method",
    "build_problem",
    "counted_probability",
    "numbers_of",
    "resolve",
    "resolved_json",
    "step_number",
]

_RESOLVED = ("step_size", "probability")


def build_problem(
    recipe: Recipe, *, whole: bool = False, out: Path | None = None, tell: Callable[[str], None] | None = None
) -> Problem:
    """The problem of a recipe, with its data read and divided.

    With `ranks` above 1 a worker's operator is computed part by part, unless `whole` is set: for a node whose ranks do that.
    What is worked out from the data is kept in `out`/cache, where a folder is given and the data say so. What the reader has
    to say of them (types of columns, missing values, lines left out) goes to `tell`.

    Raises:
        ConfigError: a parameter is out of range, or data are missing or not wanted.
        DataError: the data file is missing or malformed.
    """
    factory = find("problems", recipe.problem.name, "problem.name")
    params: dict[str, Any] = {**recipe.problem.parameters, "num_workers": recipe.workers}
    data = None
    if recipe.data is not None:
        data = read_data(factory, recipe.data)
        if tell is not None and isinstance(data, Dataset | Sentences):
            for note in data.notes:
                tell(note)
        if out is not None and isinstance(data, Sentences | Text):
            data = dataclasses.replace(data, remember=Cache(out / CACHE))
        if "split" in parameters_of(factory):
            params["split"] = recipe.data.split
    with at("problem"):
        problem: Problem = factory(data, **with_weights(factory, params))
    if tell is not None and isinstance(problem, HasNotes):
        for note in problem.notes:
            tell(note)
    with at("ranks"):
        return problem if whole else divided(problem, recipe.ranks)


def build_method(recipe: Recipe, problem: Problem) -> AnyMethod:
    """The main method of a recipe.

    Raises:
        ConfigError: a method and a compressor do not fit each other, the problem or its dimension.
    """
    method: AnyMethod = _build(recipe.method, problem, "method")
    _require_served(method, problem, recipe, "method")
    return method


def _require_served(method: AnyMethod, problem: Problem, recipe: Recipe, path: str) -> None:
    """Refuse a method that the recipe's server cannot serve."""
    inner = unwrapped(method)
    require_robust(method, recipe.server.rule)
    if recipe.server.secure:
        require_shared(method, method.init_replica(problem.start()))
    if recipe.server.on_lost == "drop" and isinstance(inner, Compresses) and jointly(inner.up):
        raise ConfigError(f"{path}.up: {inner.up} needs all its workers in every round; set server.on_lost to 'pause'")


def _build(section: MethodSection, problem: Problem, path: str) -> AnyMethod:
    params: dict[str, Any] = dict(section.parameters)
    if section.step_size == "estimate":
        problem = with_constants(problem, estimate_constants(problem))
    elif section.step_size != "theory":
        params["step_size"] = step_number(section.step_size, problem, f"{path}.step_size")
    if isinstance(section.probability, float):
        params["probability"] = section.probability
    for side, compressor in (("up", section.up), ("down", section.down)):
        if compressor is not None:
            params[side] = _compressor(compressor, problem, f"{path}.{side}")
            _check_jointly(params[side], side, problem.num_workers, f"{path}.{side}")
    if section.probability == "auto":
        sides = params["up"], params["down"]
        params["probability"] = counted_probability(*sides, problem.dimension, params.get("sync_grid"))
    find("methods", section.name, f"{path}.name")  # a plug-in may not be registered yet
    with at(path), _as_written(section, params):
        return make_method(section.name, problem, **params)


@contextlib.contextmanager
def _as_written(section: MethodSection, params: Mapping[str, Any]) -> Iterator[None]:
    """Name compressors in an error as the recipe does: it is read by whoever wrote that, not by whoever programs."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for side, compressor in (("up", section.up), ("down", section.down)):
            if compressor is not None:
                text = text.replace(repr(params[side]), inline({"name": compressor.name, **compressor.parameters}))
        if text == str(error):
            raise
        raise ConfigError(text) from error


def _compressor(section: CompressorSection, problem: Problem, path: str) -> Compressor:
    factory = find("compressors", section.name, f"{path}.name")
    parameters = _with_tensors(section.name, section.parameters, problem.tensors if isinstance(problem, HasTensors) else ())
    with at(path):
        compressor: Compressor = factory(**parameters)
        compressor.bits(problem.dimension)  # refuses parameters that do not fit the dimension
        return compressor


def _with_tensors(name: str, parameters: Mapping[str, Any], tensors: Sequence[Tensor]) -> dict[str, Any]:
    """The parameters, in which `per_tensor` without tensors, also inside another compressor, has those of the problem."""
    filled = {key: _fill(value, tensors) for key, value in parameters.items()}
    return {"tensors": tensors, **filled} if name == "per_tensor" and tensors else filled


def _fill(value: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(value, list):
        return [_fill(element, tensors) for element in value]
    return _with_tensors(value.get("name", ""), value, tensors) if isinstance(value, dict) else value


def _check_jointly(compressor: Compressor, side: str, num_workers: int, path: str) -> None:
    """Refuse a compressor whose law is one of all workers together where others, or fewer or more of them, would use it."""
    together = jointly(compressor)
    if together and side == "down":
        raise ConfigError(f"{path}: {compressor} divides a vector among workers; the server needs another compressor")
    if together and together != num_workers:
        raise ConfigError(f"{path}: {compressor} is for {together} workers, the run has {num_workers}")


def _chosen(section: CompressorSection | None, problem: Problem, path: str) -> CompressorSection | None:
    """The section of the compressor that an adaptive one chooses in this dimension; others stand for themselves."""
    if section is None:
        return None
    compressor = _compressor(section, problem, path)
    if not isinstance(compressor, Adaptive):
        return section
    name, parameters = compressor.resolved(problem.dimension)
    return CompressorSection(name=name, parameters=parameters)


def step_number(step_size: float | str, problem: Problem, path: str = "step_size") -> float | str:
    """A step size as methods take it: a number or an "auto" as they are, a multiple of 1/L with the problem's known L.

    Raises:
        ConfigError: it is malformed, or the problem has no known constants.
    """
    parsed = parse_step_size(step_size, path)
    if isinstance(parsed, float) or parsed.startswith("auto"):
        return parsed
    if parsed in ("theory", "estimate"):
        raise ConfigError(f"{path} is {parsed!r}: the method knows that number, not the problem")
    if problem.constants is None:
        raise ConfigError(f"{path} is {step_size!r}, but {problem.name} has no known constant L; give a number")
    return float(parsed.removesuffix("/L")) / problem.constants.lipschitz


def resolve(recipe: Recipe, problem: Problem) -> Recipe:
    """The recipe with numbers for the step sizes and probabilities of all its methods, and adaptive compressors chosen.

    Every driver begins with this, so that what does not fit together is told before a process starts.

    Raises:
        ConfigError: a method does not fit its compressors, the problem, its dimension, or what the server is to do.
    """
    sections = []
    for number, section in enumerate(recipe.methods):
        path = f"baseline.{number - 1}" if number else "method"
        method = _build(section, problem, path)
        _require_served(method, problem, recipe, path)
        numbers: dict[str, Any] = numbers_of(method)
        if isinstance(method, AutoStep):
            numbers["step_size"] = f"auto from {method.first_step!r}"
        up, down = (_chosen(side, problem, path) for side in (section.up, section.down))
        sections.append(dataclasses.replace(section, up=up, down=down, **numbers))
    return dataclasses.replace(recipe, method=sections[0], baselines=tuple(sections[1:]))


def numbers_of(method: AnyMethod) -> dict[str, float]:
    """The step size and the probability of a method, where it has them; under an automatic step only the latter."""
    inner, numbers = unwrapped(method), {}
    if isinstance(inner, HasStepSize) and not isinstance(method, AutoStep):
        numbers["step_size"] = float(inner.step_size)
    if isinstance(inner, HasProbability):
        numbers["probability"] = float(inner.probability)
    return numbers


def resolved_json(resolved: Recipe) -> str:
    """The resolved numbers of the main method, for the server to send to workers."""
    numbers = {key: getattr(resolved.method, key) for key in _RESOLVED}
    return json.dumps({key: value for key, value in numbers.items() if _is_resolved(key, value)}, sort_keys=True)


def _is_resolved(key: str, value: object) -> bool:
    """A number, or the automatic rule with its first step."""
    return isinstance(value, float) or (key == "step_size" and isinstance(value, str) and value.startswith("auto from "))


def apply_resolved(recipe: Recipe, text: str) -> Recipe:
    """The recipe with the numbers that `resolved_json` wrote on another machine.

    Raises:
        RemoteProtocolError: the text is no such JSON.
    """
    try:
        numbers = json.loads(text)
        if not (isinstance(numbers, dict) and set(numbers) <= set(_RESOLVED)):
            raise ConfigError("unknown keys")
        if not all(_is_resolved(key, value) for key, value in numbers.items()):
            raise ConfigError("values that are no numbers")
        known: dict[str, Any] = numbers
        method = dataclasses.replace(recipe.method, **known)
        return dataclasses.replace(recipe, method=method)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the server's resolved settings are malformed: {error}") from error


def counted_probability(up: Compressor, down: Compressor, dimension: int, sync_grid: float | None = None) -> float:
    """The p at which ordinary messages and synchronisations cost the same, at most 1/2.

    With K ~ 1/sqrt(p) iterations of c + p s bytes each, c + p s over sqrt(p) is smallest at p = c / s (Beznosikov et al. 2022
    count the uplink only and take c from a formula). Here c and s are lengths of encoded messages, up and down together,
    of a vector of normal entries: entropy coding and the downlink count.
    """
    x_D, draws = np.random.default_rng(0).standard_normal(dimension), Draws(0, 0, 0)

    def num_bytes(message: Message) -> int:
        return sum(memoryview(piece).nbytes for piece in encode(message))

    ordinary = sum(num_bytes(Message((side.encode(x_D, draws),))) for side in (up, down))
    full = Dense(x_D.astype(np.float32)) if sync_grid is None else Grid(step=sync_grid).encode(x_D, draws)
    return min(0.5, ordinary / (2 * num_bytes(Message((full,)))))
