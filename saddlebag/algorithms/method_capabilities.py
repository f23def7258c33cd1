"""What methods, and factories of methods and problems, may have beside their contracts; callers ask by `isinstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.compression.base import Compressor
    from saddlebag.compression.payload import Vector

__all__ = [
    "BringsCompressors",
    "Clips",
    "Compresses",
    "Foresees",
    "HasProbability",
    "HasStepSize",
    "IsLate",
    "Narrow",
    "Reads",
    "Sends",
    "Sliceable",
    "TakesAnyMean",
    "TakesWeights",
]


# -- methods -------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Compresses(Protocol):
    """A method whose workers compress what they send.

    Example:
        >>> from saddlebag.algorithms import CompressedExtragradient
        >>> from saddlebag.compression import Identity, TopK
        >>> method = CompressedExtragradient(step_size=0.1, up=TopK(k=1), down=Identity())
        >>> isinstance(method, Compresses), method.up.k
        (True, 1)
    """

    @property
    def up(self) -> Compressor: ...


@runtime_checkable
class HasStepSize(Protocol):
    """A method with a step size that is a number.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> isinstance(Ogda(step_size=0.1), HasStepSize)
        True
    """

    @property
    def step_size(self) -> float: ...


@runtime_checkable
class HasProbability(Protocol):
    """A method that renews something by a coin, such as an anchor.

    Example:
        >>> class Renewing:
        ...     probability = 0.1
        >>> isinstance(Renewing(), HasProbability)
        True
    """

    @property
    def probability(self) -> float: ...


@runtime_checkable
class IsLate(Protocol):
    """Workers answer for the point of the round before, where it is true.

    Example:
        >>> class Hurried:
        ...     late = True
        >>> isinstance(Hurried(), IsLate)
        True
    """

    @property
    def late(self) -> bool: ...


@runtime_checkable
class Foresees(Protocol):
    """A worker may know where its next step will ask before the downlink has come.

    Example:
        >>> class Knows:
        ...     def foreseen(self, own):
        ...         return None
        >>> isinstance(Knows(), Foresees)
        True
    """

    def foreseen(self, own: Any) -> Vector | None:
        """The point, from the worker's state after its step; None where it does not know."""


@runtime_checkable
class Narrow(Protocol):
    """A method whose states are narrow, float32 and 16 bits, where it is true: steps change them in place.

    A state that was handed on to a step is spent, and so is a replica that was replayed: only what came back is looked at. The
    server's sums are float32. See `guarded.py`.

    Example:
        >>> class Wide:
        ...     narrow = False
        >>> isinstance(Wide(), Narrow)
        True
    """

    @property
    def narrow(self) -> bool: ...


@runtime_checkable
class TakesAnyMean(Protocol):
    """Its server may be given another mean than the plain one: its memories are of what it sent, not of what workers know.

    `needs_plain_mean` says why these parameters do not allow it, and is empty where they do.

    Example:
        >>> class Plain:
        ...     needs_plain_mean = ""
        >>> isinstance(Plain(), TakesAnyMean)
        True
    """

    @property
    def needs_plain_mean(self) -> str: ...


@runtime_checkable
class Sliceable(Protocol):
    """Works coordinate by coordinate, but for compressors: its halves on slices are those of the whole (`slicing.py`).

    `unsliceable` says why these parameters do not allow it, and is empty where they do.

    Example:
        >>> from saddlebag.algorithms import Ogda
        >>> Ogda(step_size=0.1).unsliceable
        ''
    """

    @property
    def unsliceable(self) -> str: ...


@runtime_checkable
class Clips(Protocol):
    """Workers scale the operator's values to a largest norm, of all coordinates: it can be done once for all slices.

    Example:
        >>> import numpy as np
        >>> class ToOne:
        ...     def clip(self, value_D):
        ...         return value_D / max(1.0, np.linalg.norm(value_D))
        ...
        ...     def unclipped(self):
        ...         return self
        >>> isinstance(ToOne(), Clips), ToOne().clip(np.array([3.0, 4.0])).tolist()
        (True, [0.6, 0.8])
    """

    def clip(self, value_D: Vector) -> Vector:
        """The value as the method's steps scale it."""

    def unclipped(self) -> Any:
        """The method without that."""


# -- factories -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class Reads(Protocol):
    """A problem's factory whose data are no labelled rows: a key of `saddlebag.launch.data.readers.READERS`.

    Example:
        >>> def pictures_game(data, *, num_workers): ...
        >>> pictures_game.reads = "images"
        >>> isinstance(pictures_game, Reads)
        True
    """

    reads: str


@runtime_checkable
class TakesWeights(Protocol):
    """A problem's factory that begins where somebody's training ended: the key that is the path of a folder of weights.

    Example:
        >>> def tuned(data, *, num_workers, init=""): ...
        >>> tuned.weights = "init"
        >>> isinstance(tuned, TakesWeights)
        True
    """

    weights: str


@runtime_checkable
class Sends(Protocol):
    """A method's factory without compressors says in a few words what travels; `saddlebag list methods` shows it.

    Example:
        >>> from saddlebag.algorithms import METHODS
        >>> METHODS["bandit"].sends
        'sends what the arm in play does'
    """

    sends: str


@runtime_checkable
class BringsCompressors(Protocol):
    """A method's factory that knows which compressors it is for, where a recipe names none: "up" and "down", as tables.

    Example:
        >>> from saddlebag.algorithms import METHODS
        >>> sorted(METHODS["innovations"].compressors)
        ['down', 'up']
    """

    compressors: Mapping[str, Mapping[str, Any]]
