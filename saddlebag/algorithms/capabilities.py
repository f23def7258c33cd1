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
    """The problem knows z*, float64 (D,), or says None.

    Example:
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> BilinearGame.build(None, n=2, num_workers=1, seed=0).solution.shape
        (4,)
    """

    @property
    def solution(self) -> Vector | None: ...


@runtime_checkable
class HasActiveSet(Protocol):
    """Knows which coordinates still move at z: the others have F = 0, or their prox holds them (`active_set`).

    Example:
        >>> import numpy as np
        >>> from saddlebag.algorithms.registry import PROBLEMS
        >>> problem = PROBLEMS["lasso"](None, num_workers=2, features=4, support=1, seed=0)
        >>> isinstance(problem, HasActiveSet), problem.active(np.zeros(4)).dtype.name
        (True, 'int64')
    """

    def active(self, z_D: Vector) -> Index:
        """Ascending, int64 (A,)."""


@runtime_checkable
class HasMask(Protocol):
    """z are the log-odds of a mask's bits (`mask_average`).

    Example:
        >>> import numpy as np
        >>> class Masked:
        ...     def mask(self, z_D):
        ...         return z_D > 0
        >>> isinstance(Masked(), HasMask), Masked().mask(np.array([-1.0, 2.0])).tolist()
        (True, [False, True])
    """

    def mask(self, z_D: Vector) -> npt.NDArray[np.bool_]:
        """The bits that are likelier than not, (D,)."""


@runtime_checkable
class HasTensors(Protocol):
    """z is made of tensors: what `per_tensor`, LAMB and PowerSGD divide it by.

    Example:
        >>> from saddlebag.compression import Tensor
        >>> class Network:
        ...     tensors = (Tensor("weight", (3, 2)), Tensor("bias", (3,)))
        >>> isinstance(Network(), HasTensors), sum(tensor.size for tensor in Network.tensors)
        (True, 9)
    """

    @property
    def tensors(self) -> Sequence[Tensor]: ...


@runtime_checkable
class HasLocalBlocks(Protocol):
    """Samples have variables of their own, which stay on their worker (`local_blocks.py`); None for none.

    Example:
        >>> class Alone:
        ...     local = None
        >>> isinstance(Alone(), HasLocalBlocks)
        True
    """

    @property
    def local(self) -> Any: ...


@runtime_checkable
class Divisible(Protocol):
    """A worker's operator as a mean over the ranks of its node.

    Example:
        >>> from saddlebag.algorithms.problems import BilinearGame
        >>> isinstance(BilinearGame.build(None, n=2, num_workers=1, seed=0), Divisible)
        False
    """

    def part(self, worker: int, rank: int, ranks: int) -> Operator:
        """The part of one rank; `ConfigError` where it does not divide so."""


@runtime_checkable
class RunsOnDevice(Protocol):
    """Operators compute on a device of torch, by its name: "cpu", "cuda".

    Example:
        >>> class OnTheCpu:
        ...     device = "cpu"
        >>> isinstance(OnTheCpu(), RunsOnDevice)
        True
    """

    @property
    def device(self) -> str: ...


@runtime_checkable
class ShowsPictures(Protocol):
    """Something to look at.

    Example:
        >>> import numpy as np
        >>> class Painter:
        ...     def pictures(self, z_D):
        ...         return {"drawn": np.zeros((1, 8, 8))}
        >>> isinstance(Painter(), ShowsPictures)
        True
    """

    def pictures(self, z_D: Vector) -> Mapping[str, npt.NDArray[Any]]:
        """Name -> (N, H, W), grey values in [0, 1]."""


@runtime_checkable
class HasTexts(Protocol):
    """Something to read: guesses at hidden words, classes of sentences.

    Example:
        >>> class Guesser:
        ...     def texts(self, z_D):
        ...         return {"guesses": [("hidden", "guessed"), ("salt", "pepper")]}
        >>> isinstance(Guesser(), HasTexts)
        True
    """

    def texts(self, z_D: Vector) -> Mapping[str, Sequence[tuple[str, ...]]]:
        """Name -> rows of a table, the heading first."""


@runtime_checkable
class HasModules(Protocol):
    """Made of torch modules, which it gives away as plain ones.

    Example:
        >>> from torch import nn
        >>> class Network:
        ...     def module(self, z_D):
        ...         return {"classifier": nn.Linear(2, 1)}
        >>> isinstance(Network(), HasModules)
        True
    """

    def module(self, z_D: Vector) -> Mapping[str, nn.Module]:
        """Players by name, at z."""


@runtime_checkable
class HasTokenizer(Protocol):
    """Models of transformers want their tokenizer beside them; None for none.

    Example:
        >>> class Plain:
        ...     tokenizer = None
        >>> isinstance(Plain(), HasTokenizer)
        True
    """

    @property
    def tokenizer(self) -> Any: ...


@runtime_checkable
class HasNotes(Protocol):
    """What the problem has to say of how it was made, for people; empty for nothing.

    Example:
        >>> class Read:
        ...     notes = ("3 rows without a label were left out",)
        >>> isinstance(Read(), HasNotes)
        True
    """

    @property
    def notes(self) -> Sequence[str]: ...


@runtime_checkable
class WritesItself(Protocol):
    """Of transformers: it writes its own folder; a module may take `state_dict`, the tensors to write in place of its own.

    Example:
        >>> class Model:
        ...     def save_pretrained(self, path, **options):
        ...         return None
        >>> isinstance(Model(), WritesItself)
        True
    """

    def save_pretrained(self, path: Any, **options: Any) -> Any: ...


@runtime_checkable
class LinkedProgram(Protocol):
    """Its workers are programs of somebody else: F_m(z) is z less where worker m's own steps lead from there.

    Example:
        >>> class Programs:
        ...     averaged = 0
        >>> isinstance(Programs(), LinkedProgram)
        True
    """

    @property
    def averaged(self) -> int:
        """How many coordinates, the last ones, are no parameters: they are averaged as they are."""


# -- operators -----------------------------------------------------------------------------------------------------------


@runtime_checkable
class OnDevice(Protocol):
    """An operator that can stay on its device: tensors there in and out, the bits of its call; it keeps no point.

    `exact_dtype` is the type in which point and value lose nothing; an operator without it needs float64.

    Example:
        >>> import torch
        >>> class Half:
        ...     exact_dtype = torch.float32
        ...
        ...     def on_device(self, z_D, draws):
        ...         return z_D / 2
        >>> isinstance(Half(), OnDevice)
        True
    """

    @property
    def exact_dtype(self) -> torch.dtype: ...

    def on_device(self, z_D: torch.Tensor, draws: Draws) -> torch.Tensor: ...


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
