"""What problems, operators, methods and their factories may have beside their contracts; callers ask by `isinstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.base import Operator
    from saddlebag.compression.base import Compressor
    from saddlebag.compression.combinators.per_tensor import Tensor
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector

__all__ = [
    "BringsCompressors",
    "Clips",
    "Compresses",
    "Divisible",
    "Foresees",
    "HasActiveSet",
    "HasLocalBlocks",
    "HasMask",
    "HasModules",
    "HasNotes",
    "HasProbability",
    "HasSolution",
    "HasStepSize",
    "HasTensors",
    "HasTexts",
    "HasTokenizer",
    "IsLate",
    "LinkedProgram",
    "Narrow",
    "OnDevice",
    "Reads",
    "RunsOnDevice",
    "Sends",
    "ShowsPictures",
    "Sliceable",
    "TakesAnyMean",
    "TakesWeights",
    "WritesItself",
]


# -- problems ------------------------------------------------------------------------------------------------------------


@runtime_checkable
class HasSolution(Protocol):
    """The problem knows z*, float64 (D,), or says None."""

    @property
    def solution(self) -> Vector | None: ...


@runtime_checkable
class HasActiveSet(Protocol):
    """Knows which coordinates still move at z: the others have F = 0, or their prox holds them (`active_set`)."""

    def active(self, z_D: Vector) -> Index:
        """Ascending, int64 (A,)."""


@runtime_checkable
class HasMask(Protocol):
    """z are the log-odds of a mask's bits (`mask_average`)."""

    def mask(self, z_D: Vector) -> npt.NDArray[np.bool_]:
        """The bits that are likelier than not, (D,)."""


@runtime_checkable
class HasTensors(Protocol):
    """z is made of tensors: what `per_tensor`, LAMB and PowerSGD divide it by."""

    @property
    def tensors(self) -> Sequence[Tensor]: ...


@runtime_checkable
class HasLocalBlocks(Protocol):
    """Samples have variables of their own, which stay on their worker (`local_blocks.py`); None for none."""

    @property
    def local(self) -> Any: ...


@runtime_checkable
class Divisible(Protocol):
    """A worker's operator as a mean over the ranks of its node."""

    def part(self, worker: int, rank: int, ranks: int) -> Operator:
        """The part of one rank; `ConfigError` where it does not divide so."""


@runtime_checkable
class RunsOnDevice(Protocol):
    """Operators compute on a device of torch, by its name: "cpu", "cuda"."""

    @property
    def device(self) -> str: ...


@runtime_checkable
class ShowsPictures(Protocol):
    """Something to look at."""

    def pictures(self, z_D: Vector) -> Mapping[str, npt.NDArray[Any]]:
        """Name -> (N, H, W), grey values in [0, 1]."""


@runtime_checkable
class HasTexts(Protocol):
    """Something to read: guesses at hidden words, classes of sentences."""

    def texts(self, z_D: Vector) -> Mapping[str, Sequence[tuple[str, ...]]]:
        """Name -> rows of a table, the heading first."""


@runtime_checkable
class HasModules(Protocol):
    """Made of torch modules, which it gives away as plain ones."""

    def module(self, z_D: Vector) -> Mapping[str, nn.Module]:
        """Players by name, at z."""


@runtime_checkable
class HasTokenizer(Protocol):
    """Models of transformers want their tokenizer beside them; None for none."""

    @property
    def tokenizer(self) -> Any: ...


@runtime_checkable
class HasNotes(Protocol):
    """What the problem has to say of how it was made, for people; empty for nothing."""

    @property
    def notes(self) -> Sequence[str]: ...


@runtime_checkable
class WritesItself(Protocol):
    """Of transformers: it writes its own folder; a module may take `state_dict`, the tensors to write in place of its own."""

    def save_pretrained(self, path: Any, **options: Any) -> Any: ...


@runtime_checkable
class LinkedProgram(Protocol):
    """Its workers are programs of somebody else: F_m(z) is z less where worker m's own steps lead from there."""

    @property
    def averaged(self) -> int:
        """How many coordinates, the last ones, are no parameters: they are averaged as they are."""


# -- operators -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class OnDevice(Protocol):
    """An operator that can stay on its device: tensors there in and out, the bits of its call; it keeps no point.

    `exact_dtype` is the type in which point and value lose nothing; an operator without it needs float64.
    """

    @property
    def exact_dtype(self) -> torch.dtype: ...

    def on_device(self, z_D: torch.Tensor, draws: Draws) -> torch.Tensor: ...


# -- methods -------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Compresses(Protocol):
    """A method whose workers compress what they send."""

    @property
    def up(self) -> Compressor: ...


@runtime_checkable
class HasStepSize(Protocol):
    """A method with a step size that is a number."""

    @property
    def step_size(self) -> float: ...


@runtime_checkable
class HasProbability(Protocol):
    """A method that renews something by a coin, such as an anchor."""

    @property
    def probability(self) -> float: ...


@runtime_checkable
class IsLate(Protocol):
    """Workers answer for the point of the round before, where it is true."""

    @property
    def late(self) -> bool: ...


@runtime_checkable
class Foresees(Protocol):
    """A worker may know where its next step will ask before the downlink has come."""

    def foreseen(self, own: Any) -> Vector | None:
        """The point, from the worker's state after its step; None where it does not know."""


@runtime_checkable
class Narrow(Protocol):
    """A method whose states are narrow, float32 and 16 bits, where it is true: steps change them in place.

    A state that was handed on to a step is spent, and so is a replica that was replayed: only what came back is looked at. The
    server's sums are float32. See `guarded.py`.
    """

    @property
    def narrow(self) -> bool: ...


@runtime_checkable
class TakesAnyMean(Protocol):
    """Its server may be given another mean than the plain one: its memories are of what it sent, not of what workers know.

    `needs_plain_mean` says why these parameters do not allow it, and is empty where they do.
    """

    @property
    def needs_plain_mean(self) -> str: ...


@runtime_checkable
class Sliceable(Protocol):
    """Works coordinate by coordinate, but for compressors: its halves on slices are those of the whole (`slicing.py`).

    `unsliceable` says why these parameters do not allow it, and is empty where they do.
    """

    @property
    def unsliceable(self) -> str: ...


@runtime_checkable
class Clips(Protocol):
    """Workers scale the operator's values to a largest norm, of all coordinates: it can be done once for all slices."""

    def clip(self, value_D: Vector) -> Vector:
        """The value as the method's steps scale it."""

    def unclipped(self) -> Any:
        """The method without that."""


# -- factories -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Reads(Protocol):
    """A problem's factory whose data are no labelled rows: a key of `saddlebag.launch.data.readers.READERS`."""

    reads: str


@runtime_checkable
class TakesWeights(Protocol):
    """A problem's factory that begins where somebody's training ended: the key that is the path of a folder of weights."""

    weights: str


@runtime_checkable
class Sends(Protocol):
    """A method's factory without compressors says in a few words what travels; `saddlebag list methods` shows it."""

    sends: str


@runtime_checkable
class BringsCompressors(Protocol):
    """A method's factory that knows which compressors it is for, where a recipe names none: "up" and "down", as tables."""

    compressors: Mapping[str, Mapping[str, Any]]
