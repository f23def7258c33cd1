"""What a compressor is: a map from a vector to a payload, with one of two constants.

The constants are omega and alpha. MASHA's paper writes q = omega + 1 and delta = 1 / alpha.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = [
    "Absolute",
    "Adaptive",
    "Compressor",
    "Contractive",
    "HasExamples",
    "HasLevels",
    "HasMeanNoise",
    "HasReference",
    "Joint",
    "Separable",
    "SharesDraws",
    "Sparsifier",
    "Unbiased",
    "errors_average",
    "jointly",
    "kind_of",
    "mean_noise",
]


@runtime_checkable
class Compressor(Protocol):
    """Maps a vector to a payload; a frozen dataclass whose fields are its parameters.

    Example:
        >>> import numpy as np
        >>> from saddlebag.compression import Draws, TopK
        >>> TopK(k=1).encode(np.array([1.0, -3.0, 2.0]), Draws(0, 0)).dense().tolist()
        [0.0, -3.0, 0.0]
    """

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        """Compress `x_D` (any float dtype, shape (D,), D from 0); all randomness comes from `draws`.

        Raises:
            NotFiniteError: an entry is NaN or infinite, or overflows the type it travels in.
            ConfigError: the parameters do not fit the dimension.
        """

    def bits(self, d: int) -> float:
        """Expected size of an encoded message in bits, headers excluded: the cost model.

        Exact where sizes are fixed; the most where levels are coded by their frequencies; for chosen coordinates the entropy
        of a uniform support. What is reported of a run is counted, never this.
        """


@runtime_checkable
class Unbiased(Compressor, Protocol):
    """E Q(x) = x and E|Q(x) - x|^2 <= omega |x|^2.

    Example:
        >>> from saddlebag.compression import RandK
        >>> isinstance(RandK(k=1), Unbiased), RandK(k=1).omega(4)
        (True, 3.0)
    """

    def omega(self, d: int) -> float:
        """The smallest proven omega in dimension d."""


@runtime_checkable
class Contractive(Compressor, Protocol):
    """E|C(x) - x|^2 <= (1 - alpha) |x|^2.

    Example:
        >>> from saddlebag.compression import TopK
        >>> isinstance(TopK(k=1), Contractive), TopK(k=1).alpha(4)
        (True, 0.25)
    """

    def alpha(self, d: int) -> float:
        """The largest proven alpha in dimension d, in (0, 1]."""


@runtime_checkable
class Absolute(Compressor, Protocol):
    """E|C(x) - x|^2 <= error^2, whatever x: neither unbiased nor contractive, since a small x may vanish.

    Sahu et al. 2021. No method here has a proof for it, so all that have one refuse it.

    Example:
        >>> from saddlebag.compression import HardThreshold
        >>> HardThreshold(threshold=0.1).absolute_error(4)  # what is left out, each below the threshold
        0.2
    """

    def absolute_error(self, d: int) -> float:
        """The smallest proven bound of the error's root mean square, in the units of x."""


@runtime_checkable
class HasExamples(Protocol):
    """Knows parameters to be shown with, tables that `saddlebag list` and plots take: a plug-in, for those here are known.

    Example:
        >>> class Stride:
        ...     examples = ({"every": 2}, {"every": 8})
        >>> isinstance(Stride(), HasExamples)
        True
    """

    examples: Sequence[Mapping[str, Any]]


@runtime_checkable
class HasReference(Protocol):
    """Names its source for people, such as "Alistarh et al. 2017"; `saddlebag list` shows it.

    Example:
        >>> from saddlebag.compression import Natural
        >>> Natural().reference
        'Horvath et al. 2022'
    """

    reference: str


@runtime_checkable
class SharesDraws(Protocol):
    """The workers of a round share their draws, where it is true, so that their errors do not average out.

    Example:
        >>> from saddlebag.compression import RandK
        >>> RandK(k=1, support="common").common_draws, RandK(k=1).common_draws
        (True, False)
    """

    @property
    def common_draws(self) -> bool: ...


@runtime_checkable
class Joint(Protocol):
    """The law is one of so many workers together, such as Perm-k's; 0 for a law of each worker alone.

    Example:
        >>> from saddlebag.compression import PermK, TopK
        >>> PermK(workers=4).jointly, isinstance(TopK(k=1), Joint)
        (4, False)
    """

    @property
    def jointly(self) -> int: ...


@runtime_checkable
class HasMeanNoise(Protocol):
    """Knows the noise of the workers' mean better than `omega` tells.

    Example:
        >>> from saddlebag.compression import PermK
        >>> PermK(workers=4).mean_noise(8, 4)
        (1.0, 1.0)
    """

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """(a, b) of the function `mean_noise`; Perm-k's is (1, 1): no noise where all x_m are equal."""


@runtime_checkable
class Adaptive(Protocol):
    """Chooses a compressor once the dimension is known.

    Example:
        >>> from saddlebag.compression import budget
        >>> budget(of="top_k", budget_bytes=400).resolved(1000)[0]
        'top_k'
    """

    def resolved(self, d: int) -> tuple[str, dict[str, Any]]:
        """Name and parameters of the compressor in dimension `d`."""


@runtime_checkable
class Sparsifier(Compressor, Protocol):
    """A compressor whose payload is `Sparse` or `Seeded` with float32 values.

    Example:
        >>> from saddlebag.compression import TopK
        >>> TopK(fraction=0.25).num_kept(8)
        (2.0, 2)
    """

    def num_kept(self, d: int) -> tuple[float, int]:
        """How many coordinates travel in dimension d: (in the mean, at most)."""


@runtime_checkable
class HasLevels(Protocol):
    """Maps entries to whole numbers from -L to L times a scale, so that L says how many bits a sum of many needs.

    Example:
        >>> from saddlebag.compression import BlockInt8
        >>> BlockInt8().largest_level
        127
    """

    @property
    def largest_level(self) -> int:
        """L."""


@runtime_checkable
class Separable(Protocol):
    """Works piece by piece: on some runs of coordinates there is a compressor that gives them what the whole one does.

    Example:
        >>> from saddlebag.compression import BlockTopK
        >>> whole = BlockTopK(k=1, block=4)
        >>> whole.part(slice(4, 8), 8), whole.part(slice(3, 8), 8)  # the second run cuts a block
        (BlockTopK(block=4, k=1, fraction=None), None)
    """

    def part(self, here: slice, d: int) -> Compressor | None:
        """That of the run `here` of `d` coordinates; None where the run cuts a piece."""


CAPABILITIES = (
    *(Compressor, Unbiased, Contractive, Absolute),
    *(HasReference, HasExamples, HasLevels),
    *(SharesDraws, Joint, HasMeanNoise, Adaptive, Sparsifier, Separable),
)
"""All that a compressor may have."""


def kind_of(compressor: Compressor) -> str:
    """'unbiased', 'contractive', 'absolute' or several of them, for messages to people.

    Example:
        >>> from saddlebag.compression import Natural
        >>> kind_of(Natural())
        'unbiased'
    """
    classes = (("unbiased", Unbiased), ("contractive", Contractive), ("absolute", Absolute))
    kinds = [name for name, cls in classes if isinstance(compressor, cls)]
    return " and ".join(kinds)


def errors_average(compressor: Compressor) -> bool:
    """Whether different workers' errors are independent, so that they shrink in the mean.

    Example:
        >>> from saddlebag.compression import RandK
        >>> errors_average(RandK(k=1)), errors_average(RandK(k=1, support="common"))
        (True, False)
    """
    return not (isinstance(compressor, SharesDraws) and compressor.common_draws)


def jointly(compressor: object) -> int:
    """Of how many workers together the law is; 0 for a law of each alone.

    Example:
        >>> from saddlebag.compression import PermK, TopK
        >>> jointly(PermK(workers=4)), jointly(TopK(k=1))
        (4, 0)
    """
    return compressor.jointly if isinstance(compressor, Joint) else 0


def mean_noise(compressor: Unbiased, d: int, num_workers: int) -> tuple[float, float]:
    """(a, b) with E|mean Q_m(x_m) - xbar|^2 <= a mean|x_m|^2 - b |xbar|^2, xbar the mean of the workers' x_m.

    The AB inequality of Szlendak, Tyurin, Richtarik 2022. Independent errors give (omega / M, 0). Workers that
    share the draws of a map that is linear in x (Rand-k) give (0, -omega): the mean is Q(xbar). See also `HasMeanNoise`.

    Raises:
        ConfigError: the compressor is made for another number of workers.

    Example:
        >>> from saddlebag.compression import RandK
        >>> mean_noise(RandK(k=1), 4, 3)  # omega = 3, of three workers
        (1.0, 0.0)
    """
    if isinstance(compressor, HasMeanNoise):
        a, b = compressor.mean_noise(d, num_workers)
        return float(a), float(b)
    omega = compressor.omega(d)
    return (omega / num_workers, 0.0) if errors_average(compressor) else (0.0, -omega)
