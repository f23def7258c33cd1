"""What problems and operators may have beside their contracts; callers ask by `isinstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

    from saddlebag.algorithms.base import Operator
    from saddlebag.compression.combinators.per_tensor import Tensor
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Index, Vector

from saddlebag.moved import names_left

__all__ = [
    "Divisible",
    "HasActiveSet",
    "HasLocalBlocks",
    "HasMask",
    "HasModules",
    "HasNotes",
    "HasSolution",
    "HasTensors",
    "HasTexts",
    "HasTokenizer",
    "LinkedProgram",
    "OnDevice",
    "RunsOnDevice",
    "ShowsPictures",
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


if not TYPE_CHECKING:  # or every misspelt name would pass for one of these
    __getattr__ = names_left("algorithms.capabilities")
