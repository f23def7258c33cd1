"""A recipe: everything that determines a run, in one TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from saddlebag.algorithms.method_capabilities import TakesWeights
from saddlebag.algorithms.registry import default_compressors, takes_compressors
from saddlebag.algorithms.simulate import LIMITS, Stop
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import at, fit, join, read_table, unknown
from saddlebag.launch.recipe.plugins import find
from saddlebag.launch.recipe.sections import (
    BUNDLED,
    CheckpointSection,
    CompressorSection,
    DataSection,
    MethodSection,
    OutputSection,
    ProblemSection,
    parse_step_size,
    weights_fingerprint,
)
from saddlebag.launch.recipe.server_section import ServerSection
from saddlebag.launch.recipe.shipped import open_recipe
from saddlebag.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Driver", "Recipe", "load_recipe", "method_table", "read_method", "recipe_from_dict"]

Driver = Literal["grpc", "simulate", "collective"]

_SECTIONS = {
    "data": DataSection,
    "stop": Stop,
    "checkpoint": CheckpointSection,
    "server": ServerSection,
    "output": OutputSection,
}
_USUAL_STOP: dict[str, Any] = {"merit": 1e-6, "max_rounds": 20_000}  # of a recipe that sets no limit
_PLAIN = ("title", "seed", "workers", "ranks", "driver")
_ELSEWHERE = "compare"  # a table that `saddlebag compare` reads; a single run has no use for it
_TOP = (*_PLAIN, "problem", "method", "baseline", *_SECTIONS, _ELSEWHERE)
_OF_PROBLEMS = {"data": "data.source", "num_workers": "workers", "workers": "workers", "split": "data.split"}
"""What a problem is given, and where a recipe says it."""
_OF_OTHERS = {
    "data": {
        "file": "data.source",
        "label": "data.target (of a table) or data.label_column (of sentences)",
        "na_values": "data.missing",
        "name": "data.source",
        "path": "data.source",
        "sep": "data.delimiter",
        "separator": "data.delimiter",
    }
}
"""Keys that other tools have for it, by section."""
_MOST_WORKERS = 1 << 16  # each has an operator of its own, and every round goes over all of them
_METHOD_KEYS = ("name", "label", "up", "down", "step_size", "probability")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One problem, the method under study, and the baselines beside it.

    Attributes:
        title: for people.
        seed: of the run: coins, supports, rounding. A problem has its own, `problem.seed`.
        workers: how many; ranks 0 to workers - 1 take part.
        ranks: into how many parts a worker's batch is divided: a worker that is a node of torchrun has so many processes, every
            other one computes the parts one after the other, to the same bits. A node with `ranks` = 1 may have any number.
        driver: "grpc" (a server, and a process for each worker), "simulate" (one process), or "collective" (a process for each
            worker, without a server, over torch.distributed).
        problem, data, method, stop, checkpoint, server, output: the tables of the same names; no data for some problems.
        baselines: more methods, run on the same problem, data, seed, stop and driver.
    """

    title: str = ""
    seed: int = 0
    workers: int = 4
    ranks: int = 1
    driver: Driver = "grpc"
    problem: ProblemSection
    data: DataSection | None = None
    method: MethodSection
    baselines: tuple[MethodSection, ...] = ()
    stop: Stop
    checkpoint: CheckpointSection = dataclasses.field(default_factory=CheckpointSection)
    server: ServerSection = dataclasses.field(default_factory=ServerSection)
    output: OutputSection = dataclasses.field(default_factory=OutputSection)

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= _MOST_WORKERS:
            raise ConfigError(f"workers must lie in [1, {_MOST_WORKERS:,}], got {self.workers}")
        if self.ranks < 1:
            raise ConfigError(f"ranks must be at least 1, got {self.ranks}")
        if not 0 <= self.seed < 2**64:
            raise ConfigError(f"seed must lie in [0, 2^64), got {self.seed}")
        if self.driver not in get_args(Driver):
            raise ConfigError(f"driver must be {' or '.join(map(repr, get_args(Driver)))}, got {self.driver!r}")
        if self.server.signers and len(self.server.signers) != self.workers:
            raise ConfigError(f"server.signers must name a key for each worker, {self.workers}, got {len(self.server.signers)}")
        seen: set[str] = set()
        for path, method in zip(self._method_paths(), self.methods, strict=True):
            method.check(path)
            if method.label.casefold() in seen:
                raise ConfigError(f"{path}.label {method.label!r} is taken by a method above; labels must differ")
            seen.add(method.label.casefold())

    def _method_paths(self) -> list[str]:
        return ["method", *(f"baseline.{number}" for number in range(len(self.baselines)))]

    @property
    def methods(self) -> tuple[MethodSection, ...]:
        """The method and the baselines."""
        return (self.method, *self.baselines)

    @property
    def label(self) -> str:
        """The label of the method."""
        return self.method.label

    def jobs(self) -> list[Recipe]:
        """One recipe for each method, the main one first."""
        return [dataclasses.replace(self, method=method, baselines=()) for method in self.methods]

    def canonical(self) -> str:
        """Canonical JSON of what determines the trajectory of the method: what workers and server compare.

        Raises:
            DataError: the data file, which counts by its SHA-256, cannot be read.
        """
        table = self.to_dict()
        facts = {key: table[key] for key in ("seed", "workers", "problem", "method", "stop", "checkpoint")}
        del facts["method"]["label"]
        weights = _weights_key(self.problem.name) if self.problem.parameters else ""  # linked programs are no factory's
        if self.problem.parameters.get(weights):  # count by what lies there, as data do
            facts["problem"][weights] = weights_fingerprint(self.problem.parameters[weights])
        if self.ranks != 1:  # another order of sums, and of dropout
            facts["ranks"] = self.ranks
        if self.server.rule is not None:
            facts["mean"] = self.server.mean
        if self.server.secure:
            facts["secure"] = self.server.unmasking(self.workers)
        if self.server.signers:
            facts["signers"] = list(self.server.signers)
        if self.server.noise:
            facts["noise"] = self.server.noise
        if self.server.shards != 1:  # other compressors, where one looks at the whole vector
            facts["shards"] = self.server.shards
        if self.data is not None:
            facts["data"] = self.data.fingerprint()
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of `canonical()`, hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The recipe as `recipe_from_dict` reads it, defaults written out."""
        table: dict[str, Any] = {key: getattr(self, key) for key in _PLAIN}
        table["problem"] = {"name": self.problem.name, **self.problem.parameters}
        for key in _SECTIONS:
            section = getattr(self, key)
            if section is not None:
                table[key] = {k: v for k, v in dataclasses.asdict(section).items() if v is not None}
        if self.data is not None:
            table["data"] = self.data.to_dict()
        table["method"] = method_table(self.method)
        if self.baselines:
            table["baseline"] = [method_table(method) for method in self.baselines]
        return table

    def to_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads back to an equal one."""
        return toml.dump(self.to_dict())


def method_table(method: MethodSection) -> dict[str, Any]:
    """The table that `read_method` reads back, with all parameters that were given."""
    table: dict[str, Any] = {"name": method.name, "label": method.label}
    accepted = parameters_of(find("methods", method.name, "method.name"))
    table |= {key: getattr(method, key) for key in ("step_size", "probability") if key in accepted}
    table |= method.parameters
    for side in ("up", "down"):
        section = getattr(method, side)
        if section is not None:
            table[side] = {"name": section.name, **section.parameters}
    return table


def load_recipe(path: str | Path, sets: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: of the file, or the name of a recipe that comes with the installation; relative paths inside a file start at its
            folder, or else at the working directory.
        sets: overrides, `key.path=value`.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range; the message names the key's path.
        DataError: the data file is missing.
    """
    path, table = open_recipe(path, sets, "run")
    return recipe_from_dict(table, folder=path.parent, stem=path.stem)


def recipe_from_dict(table: Mapping[str, Any], *, folder: Path | None = None, stem: str = "run") -> Recipe:
    """The recipe in a table; see `load_recipe`."""
    for key in table:
        if key not in _TOP:
            owners = [f"{name}.{key}" for name, section in _SECTIONS.items() if key in parameters_of(section)]
            if owners:
                raise ConfigError(f"{key} is no known key; did you mean {' or '.join(owners)}?")
            raise unknown(f"{key} is no known key", key, _TOP)
    for key in ("problem", "method"):
        if key not in table:
            raise ConfigError(f"{key} is missing; a recipe needs a table [{key}]")
    given = [field.name for field in dataclasses.fields(Recipe) if field.name not in _PLAIN]
    plain = fit(Recipe, {key: table[key] for key in _PLAIN if key in table}, "", given=given)
    sections: dict[str, Any] = {}
    for key, section in _SECTIONS.items():
        if key in table:
            with at(key):
                values = fit(section, read_table(table[key], key), key, elsewhere=_OF_OTHERS.get(key, {}))
                limited = key != "stop" or not values.keys().isdisjoint(LIMITS)
                sections[key] = section(**values if limited else _USUAL_STOP | values)
    sections.setdefault("stop", Stop(**_USUAL_STOP))
    if "data" in sections:
        sections["data"] = _locate(sections["data"], folder)
    output = sections.get("output", OutputSection())
    sections["output"] = output if output.directory else dataclasses.replace(output, directory=f"runs/{stem}")
    baselines = table.get("baseline", [])
    if not isinstance(baselines, list):
        raise ConfigError("baseline must be a list of tables; write [[baseline]]")
    methods = [read_method(table["method"], "method")]
    methods += [read_method(baseline, f"baseline.{number}") for number, baseline in enumerate(baselines)]
    main, *rest = _label(methods)
    return Recipe(problem=_read_problem(table["problem"], folder), method=main, baselines=tuple(rest), **plain, **sections)


def _locate(data: DataSection, folder: Path | None) -> DataSection:
    if data.source in BUNDLED:
        return data
    tried = [base / data.source for base in (folder, Path.cwd()) if base is not None]
    for path in tried:
        if path.exists():
            if not path.is_file() and not path.is_dir():
                raise DataError(
                    f"data.source {data.source!r} is a pipe or a device; it is read more than once: save it as a file"
                )
            return dataclasses.replace(data, source=str(path.resolve()))
    folders = " and ".join(dict.fromkeys(str(path.resolve()) for path in tried))
    raise DataError(
        f"data.source {data.source!r} is neither {' nor '.join(map(repr, BUNDLED))} nor a file; looked for {folders}"
    )


def _read_name(table: Mapping[str, Any], path: str, default: str | None = None) -> str:
    name = table.get("name", default)
    if not isinstance(name, str):
        raise ConfigError(f"{path}.name must be text, got {name!r}" if "name" in table else f"{path}.name is missing")
    return name


def _read_problem(value: object, folder: Path | None) -> ProblemSection:
    table = read_table(value, "problem")
    name = _read_name(table, "problem")
    rest = {key: value for key, value in table.items() if key != "name"}
    factory = find("problems", name, "problem.name")
    parameters = fit(factory, rest, "problem", given=tuple(_OF_PROBLEMS), also=("name",), elsewhere=_OF_PROBLEMS)
    weights = _weights_key(name)
    if isinstance(parameters.get(weights), str) and parameters[weights]:
        tried = [base / parameters[weights] for base in (folder, Path.cwd()) if base is not None]
        parameters[weights] = str(next((path.resolve() for path in tried if path.is_dir()), parameters[weights]))
    return ProblemSection(name=name, parameters=parameters)


def _weights_key(name: str) -> str:
    """The key that is a path of weights, of a problem that takes some."""
    factory = find("problems", name, "problem.name")
    return factory.weights if isinstance(factory, TakesWeights) else ""


def _read_compressor(value: object, path: str) -> CompressorSection:
    table = read_table(value, path)
    name = _read_name(table, path, "identity")
    rest = {key: value for key, value in table.items() if key != "name"}
    parameters = fit(find("compressors", name, f"{path}.name"), rest, path, also=("name",))
    return CompressorSection(
        name=name, parameters={key: _read_inner(value, join(path, key)) for key, value in parameters.items()}
    )


def _read_inner(value: Any, path: str) -> Any:
    """A parameter of a compressor: a table with a name is another compressor, also in a table of a list."""
    if isinstance(value, dict) and "name" in value:
        section = _read_compressor(value, path)
        return {"name": section.name, **section.parameters}
    if isinstance(value, list):
        return [_read_element(element, f"{path}.{number}") for number, element in enumerate(value)]
    return value


def _read_element(element: Any, path: str) -> Any:
    if not isinstance(element, dict):
        return element
    return {key: _read_inner(value, join(path, key)) for key, value in element.items()}


def read_method(value: object, path: str) -> MethodSection:
    """The section in a table; `path` is the table's, for messages.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type.
    """
    table = read_table(value, path)
    name = _read_name(table, path)
    factory = find("methods", name, f"{path}.name")
    compresses, accepted = takes_compressors(name), parameters_of(factory)
    absent = {"up", "down"} if not compresses else set()
    absent |= {key for key in ("step_size", "probability") if key not in accepted}
    own = [key for key in _METHOD_KEYS if key not in absent]
    if not compresses and not {"up", "down"}.isdisjoint(table):
        raise ConfigError(f"{path}: {name} takes no compressors up or down")
    rest = {key: value for key, value in table.items() if key not in own}
    values: dict[str, Any] = {key: table[key] for key in ("step_size", "probability") if key in own and key in table}
    if "step_size" in values:
        values["step_size"] = parse_step_size(values["step_size"], join(path, "step_size"))
    if isinstance(values.get("probability"), int) and not isinstance(values["probability"], bool):
        values["probability"] = float(values["probability"])
    if compresses:
        usual = default_compressors(name)
        values |= {side: _read_compressor(table.get(side, usual.get(side, {})), join(path, side)) for side in ("up", "down")}
    label = table.get("label", "")
    if not isinstance(label, str):
        raise ConfigError(f"{path}.label must be text, got {label!r}")
    given = ("problem", *own)
    return MethodSection(name=name, label=label, parameters=fit(factory, rest, path, given=given, also=own), **values)


def _label(methods: list[MethodSection]) -> list[MethodSection]:
    """Give a label to methods without one: the name, numbered where it is taken."""
    taken = {method.label.casefold() for method in methods}
    labelled = []
    for method in methods:
        label, number = method.label or method.name, 1
        while not method.label and label.casefold() in taken:
            number += 1
            label = f"{method.name}-{number}"
        taken.add(label.casefold())
        labelled.append(dataclasses.replace(method, label=label))
    return labelled
