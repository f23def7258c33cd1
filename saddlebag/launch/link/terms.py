"""What all linked programs of a run say alike: the method, the period, and the tensors that travel."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.algorithms.problems.linked import LinkedPrograms
from saddlebag.algorithms.simulate import Stop
from saddlebag.compression import Tensor
from saddlebag.errors import ConfigError
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, method_table, read_method
from saddlebag.launch.recipe.sections import CheckpointSection, OutputSection, ProblemSection
from saddlebag.launch.recipe.server_section import ServerSection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression import Vector

__all__ = ["METHODS", "Terms"]

METHODS = ("diloco", "local_average", "muloco", "sparse_loco")
"""The methods of links: they exchange what steps have changed."""

_ENDLESS = 1 << 40  # rounds: the programs say when they are done
_PROGRAMS = ("beta1", "beta2", "eps", "weight_decay", "clip_norm", "schedule", "warmup", "total")  # and what begins with local_


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """See the module.

    Attributes:
        method: a recipe's table [method], with its defaults written out.
        every: steps of the program between exchanges.
        parameters, buffers: what travels, in order.
    """

    method: Mapping[str, Any]
    every: int
    parameters: Sequence[Tensor]
    buffers: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise ConfigError(f"every must be a whole number of at least 1, got {self.every!r}")

    @classmethod
    def of(cls, method: str | Mapping[str, Any], every: int, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> Terms:
        """The terms of a program.

        Args:
            method: a name or a table such as {"name": "diloco", "up": {"name": "grid"}}.
            every: see the class.
            parameters: see the class.
            buffers: see the class.

        Raises:
            ConfigError: there is no such method for a link, or a parameter of it is the program's own business.
        """
        table = {"name": method} if isinstance(method, str) else dict(method)
        if table.get("name") not in METHODS:
            raise ConfigError(f"a link's method must be one of {', '.join(METHODS)}, got {table.get('name')!r}")
        for key in table:
            if key.startswith("local_") or key in _PROGRAMS:
                raise ConfigError(
                    f"method.{key} is for steps of ours: in a link the program's optimizer makes them; leave it out"
                )
        section = read_method(table, "method")
        full = {key: value for key, value in method_table(section).items() if key != "label"}
        return cls(method=full, every=every, parameters=tuple(parameters), buffers=tuple(buffers))

    @classmethod
    def parse(cls, text: str) -> Terms:
        """The terms in a text of `text`.

        Raises:
            ConfigError: it is no such text.
        """
        try:
            table = json.loads(text)
            tensors = [_tensors(table[key]) for key in ("parameters", "buffers")]
            return cls.of(table["method"], table["every"], *tensors)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise ConfigError(f"the terms of a link are malformed: {str(error)[:200]}") from error

    @property
    def dimension(self) -> int:
        """D."""
        return sum(tensor.size for tensor in (*self.parameters, *self.buffers))

    def text(self) -> str:
        """Canonical JSON, so that a refusal can name the field that differs."""
        table = {
            "method": self.method,
            "every": self.every,
            "parameters": _table(self.parameters),
            "buffers": _table(self.buffers),
        }
        return json.dumps(table, sort_keys=True, separators=(",", ":"))

    def problem(self, start_D: Vector, workers: int) -> LinkedPrograms:
        """What the programs solve."""
        averaged = sum(tensor.size for tensor in self.buffers)
        tensors = (*self.parameters, *self.buffers)
        return LinkedPrograms(origin_D=start_D, tensors=tensors, num_workers=workers, averaged=averaged)

    def recipe(
        self,
        *,
        workers: int,
        seed: int,
        rounds: int | None = None,
        checkpoint: CheckpointSection | None = None,
        server: ServerSection | None = None,
        trackers: Sequence[str] = (),
    ) -> Recipe:
        """The same as a recipe, for a job; without `rounds` the programs say when the run ends."""
        section = dataclasses.replace(read_method(self.method, "method"), label=self.method["name"])
        return Recipe(
            seed=seed,
            workers=workers,
            problem=ProblemSection(name="linked programs"),
            method=section,
            stop=Stop(max_rounds=rounds or _ENDLESS),
            checkpoint=checkpoint or CheckpointSection(every=1),
            server=server or ServerSection(),
            output=OutputSection(trackers=tuple(trackers)),
        )

    def lead(self, recipe: Recipe, start_D: Vector) -> Job:
        """The server's job."""
        return _checked(Job.lead(recipe, "grpc", problem=self.problem(start_D, recipe.workers)))

    def join(self, recipe: Recipe, start_D: Vector, agreed: str | None = None) -> Job:
        """A program's job."""
        return _checked(Job.join(recipe, agreed, problem=self.problem(start_D, recipe.workers)))


def _checked(job: Job) -> Job:
    assert isinstance(job.method, LocalRounds), "METHODS names what has no local rounds"
    return job


def _table(tensors: Sequence[Tensor]) -> dict[str, list[int]]:
    """Name -> place in the order, then the shape."""
    return {tensor.name: [number, *tensor.shape] for number, tensor in enumerate(tensors)}


def _tensors(table: Mapping[str, Sequence[int]]) -> tuple[Tensor, ...]:
    found = []
    for number, (name, (place, *shape)) in enumerate(sorted(table.items(), key=lambda entry: entry[1][0])):
        if place != number or any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) > 1 << 40:
            raise ValueError(f"tensor {name!r} has place {place} and shape {shape}")
        found.append(Tensor(name, tuple(shape)))
    return tuple(found)
