"""A problem and a method on a slice of the coordinates: what one of several servers carries, and a worker's half for it.

A method that works coordinate by coordinate (`Sliceable`) has on slices the bits of the whole, where its compressors work piece
by piece and no slice cuts a piece (`Separable`); others work on every slice by itself, and `differences` names them.

Shapes: D = coordinates of the whole, E = those of a slice.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.agreed.auto_step import AutoStep
from saddlebag.algorithms.base import identity_prox
from saddlebag.algorithms.capabilities import HasTensors
from saddlebag.algorithms.method_capabilities import Clips, Sliceable
from saddlebag.algorithms.state import pack, unpack
from saddlebag.algorithms.wrapped import unwrapped
from saddlebag.compression import Compressor, Separable
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.algorithms.base import AnyMethod, Constants, Operator, Problem
    from saddlebag.compression import Vector

_UNIT = 1 << 16  # coordinates: slices of a vector without tensors end at multiples of it, where that is even enough
_EVEN = 4  # units that a slice has at least


def cut(problem: Problem, shards: int) -> tuple[slice, ...]:
    """The slices of a problem's coordinates, about alike in length: whole tensors, where it is made of some.

    Raises:
        ConfigError: it has too few coordinates, or tensors.

    Example:
        >>> import saddlebag as sb
        >>> cut(sb.make_problem("bilinear", n=5, workers=2), 2)
        (slice(0, 5, None), slice(5, 10, None))
    """
    d = problem.dimension
    tensors = [tensor.size for tensor in problem.tensors if tensor.size] if isinstance(problem, HasTensors) else []
    unit = max(1, min(_UNIT, 1 << max(0, (d // (_EVEN * shards)).bit_length() - 1)))
    ends = list(itertools.accumulate(tensors)) if tensors else [*range(unit, d, unit), d]
    if len(ends) < shards:
        what = f"{len(ends)} tensors" if tensors else f"{d} coordinates"
        raise ConfigError(f"server.shards = {shards} needs as many slices, and {problem.name} has {what}")
    chosen, first = [0], 0
    for number in range(1, shards):
        last = len(ends) - (shards - number) - 1  # an end for each slice that follows
        place = bisect.bisect_left(ends, d * number / shards, first, last)
        if place > first and d * number / shards - ends[place - 1] < ends[place] - d * number / shards:
            place -= 1
        chosen.append(ends[place])
        first = place + 1
    return tuple(itertools.starmap(slice, itertools.pairwise([*chosen, d])))


@dataclasses.dataclass(frozen=True)
class SliceOfProblem:
    """What a server of a slice sees of a problem: where it starts. Operators and merits are of the whole.

    Attributes:
        whole: the problem.
        here: its coordinates.
    """

    whole: Problem
    here: slice

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def dimension(self) -> int:
        return int(self.here.stop - self.here.start)

    @property
    def num_workers(self) -> int:
        return self.whole.num_workers

    @property
    def unconstrained(self) -> bool:
        return self.whole.unconstrained

    @property
    def constants(self) -> Constants | None:
        return self.whole.constants

    def start(self) -> Vector:
        """Of the slice, a copy (E,): the whole one needs no memory afterwards."""
        return self.whole.start()[self.here].copy()

    def operator(self, worker: int) -> Operator:
        """Refused: F_m is one of all coordinates."""
        raise ConfigError(f"worker {worker}'s operator is of all coordinates of {self.name}, not of a slice")

    def prox(self, v_D: Vector, step_size: float) -> Vector:
        return identity_prox(v_D, step_size)

    def merits(self, z_D: Vector) -> Mapping[str, float]:
        """None: they are of the whole iterate."""
        del z_D
        return {}


def require_sliceable(method: AnyMethod, problem: Problem) -> None:
    """Refuse what does not work slice by slice.

    Raises:
        ConfigError: the method needs norms of the whole on all machines, or the problem has a prox.
    """
    known: object = method
    name = type(unwrapped(method)).__name__ + (" with step_size = 'auto'" if isinstance(method, AutoStep) else "")
    why = known.unsliceable if isinstance(known, Sliceable) else "its steps, or their size, need norms of the whole vector"
    if why:
        raise ConfigError(f"server.shards cannot be kept by {name}: {why}; leave it at 1")
    if not problem.unconstrained:
        raise ConfigError(f"server.shards cannot be kept: {problem.name} has constraints or a regulariser; leave it at 1")


def sliced(method: AnyMethod, here: slice, d: int) -> AnyMethod:
    """The method on a slice of `d` coordinates; without clipping, which is done on the whole value (`Clips`).

    Raises:
        ConfigError: a compressor does not fit the slice.
    """
    known: Any = method
    return _on(known.unclipped() if isinstance(known, Clips) else known, here, d)  # type: ignore[no-any-return]


def _on(value: Any, here: slice, d: int) -> Any:
    """A field of a method on a slice."""
    if isinstance(value, Compressor):
        part = value.part(here, d) if isinstance(value, Separable) else None
        chosen = value if part is None else part
        chosen.bits(here.stop - here.start)  # refuses parameters that do not fit the dimension
        return chosen
    if isinstance(value, np.ndarray) and value.shape == (d,):
        return value[here]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        moved = {name: identity_prox if name == "prox" else _on(field, here, d) for name, field in fields.items()}
        return dataclasses.replace(value, **{name: new for name, new in moved.items() if new is not fields[name]})
    return value


def differences(method: AnyMethod, slices: Sequence[slice], d: int) -> list[str]:
    """The compressors, by the names of the method's fields, that do not give slices what they give the whole vector."""
    fields = [(field.name, getattr(method, field.name)) for field in dataclasses.fields(method)]  # type: ignore[arg-type]
    found = [(name, value) for name, value in fields if isinstance(value, Compressor)]
    return [name for name, value in found if not all(isinstance(value, Separable) and value.part(each, d) for each in slices)]


def joined(like: Any, parts: Sequence[Any]) -> Any:
    """The replica of the whole.

    Args:
        like: one of the whole, such as that at the start.
        parts: those of the slices, at one boundary.
    """
    packs = [pack(part) for part in parts]
    arrays = {name: np.concatenate([each[name] for each in packs]) if array.ndim else array for name, array in packs[0].items()}
    return unpack(like, arrays)
