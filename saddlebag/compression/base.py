"""What a compressor is: a map from a vector to a payload, with one of two constants.

The constants are omega and alpha. MASHA's paper writes q = omega + 1 and delta = 1 / alpha.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["Compressor", "Contractive", "Unbiased", "errors_average", "kind_of"]


@runtime_checkable
class Compressor(Protocol):
    """Maps a vector to a payload; a frozen dataclass whose fields are its parameters.

    A class may name its source for people in an attribute `reference`, such as "Alistarh et al. 2017", which
    `saddlebag list` shows.
    """

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        """Compress `x_D` (any float dtype, shape (D,)); all randomness comes from `draws`.

        Raises:
            NotFiniteError: an entry is NaN or infinite, or overflows the type it travels in.
            ConfigError: the parameters do not fit the dimension.
        """

    def bits(self, d: int) -> float:
        """Expected size of an encoded message in bits, headers excluded: the cost model, exact where sizes are fixed."""


@runtime_checkable
class Unbiased(Compressor, Protocol):
    """E Q(x) = x and E|Q(x) - x|^2 <= omega |x|^2."""

    def omega(self, d: int) -> float:
        """The smallest proven omega in dimension d."""


@runtime_checkable
class Contractive(Compressor, Protocol):
    """E|C(x) - x|^2 <= (1 - alpha) |x|^2."""

    def alpha(self, d: int) -> float:
        """The largest proven alpha in dimension d, in (0, 1]."""


def kind_of(compressor: Compressor) -> str:
    """'unbiased', 'contractive' or 'unbiased and contractive', for messages to people."""
    kinds = [name for name, cls in (("unbiased", Unbiased), ("contractive", Contractive)) if isinstance(compressor, cls)]
    return " and ".join(kinds)


def errors_average(compressor: Compressor) -> bool:
    """Whether different workers' errors are independent, so that they shrink in the mean.

    A compressor whose workers share their draws says so with an attribute `common_draws = True`.
    """
    return not getattr(compressor, "common_draws", False)
