"""Composition: a sparsifier chooses coordinates, a second compressor codes their values."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from saddlebag.compression.base import (
    Compressor,
    Contractive,
    Sparsifier,
    Unbiased,
    errors_average,
    jointly,
    kind_of,
    mean_noise,
)
from saddlebag.compression.combinators.nested import Inner, as_compressor, independent_draws
from saddlebag.compression.payload import Flat, Seeded, Sparse
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["compose"]

_VALUES = 1  # the number of the values' own draws


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Composition:
    sparsifier: Sparsifier
    values: Compressor

    reference = "Basu et al. 2019"

    @property
    def common_draws(self) -> bool:
        """Whether all workers of a round keep the same coordinates."""
        return not errors_average(self.sparsifier)

    @property
    def jointly(self) -> int:
        """Of how many workers together the law is; 0 for a law of each alone."""
        return jointly(self.sparsifier)

    def _chosen(self, x_D: Vector, draws: Draws) -> Sparse | Seeded:
        payload = self.sparsifier.encode(x_D, draws)
        if not isinstance(payload, Sparse | Seeded):
            raise ConfigError(f"compose.sparsifier must choose coordinates, {self.sparsifier} gave {type(payload).__name__}")
        return payload

    def _coded(self, payload: Sparse | Seeded, value_K: Vector, draws: Draws) -> Sparse | Seeded:
        """The payload with these values, coded by the second compressor."""
        if not len(value_K):
            return payload
        coded = self.values.encode(value_K, independent_draws(draws, _VALUES))
        if not isinstance(coded, Flat):
            raise ConfigError(f"compose.values must give every entry a value, {self.values} gave {type(coded).__name__}")
        return dataclasses.replace(payload, value=coded)

    def bits(self, d: int) -> float:
        mean, _ = self.sparsifier.num_kept(d)
        return self.sparsifier.bits(d) - 32.0 * mean + self.values.bits(max(min(d, 1), round(mean)))


class _UnbiasedComposition(_Composition):
    """V(S(x)) with both unbiased: omega = (1 + omega_S)(1 + omega_V(K)) - 1."""

    def encode(self, x_D: Vector, draws: Draws) -> Sparse | Seeded:
        payload = self._chosen(x_D, draws)
        return self._coded(payload, payload.value.value_D, draws)

    def omega(self, d: int) -> float:
        return (1.0 + _omega(self.sparsifier, d)) * (1.0 + _omega(self.values, self.sparsifier.num_kept(d)[1])) - 1.0

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """Those of the sparsifier; the values' errors are independent on top, E|S(x)|^2 = (1 + omega_S)|x|^2 in size."""
        assert isinstance(self.sparsifier, Unbiased)
        a, b = mean_noise(self.sparsifier, d, num_workers)
        own = _omega(self.values, self.sparsifier.num_kept(d)[1]) * (1.0 + self.sparsifier.omega(d))
        return a + (own / num_workers if errors_average(self.values) else own), b


class _ContractiveComposition(_Composition):
    """C(x) = V(c S(x)), S keeping entries as they are."""

    def encode(self, x_D: Vector, draws: Draws) -> Sparse | Seeded:
        payload = self._chosen(x_D, draws)
        value_K = payload.value.value_D
        if not np.array_equal(value_K, x_D[payload.index_K].astype(value_K.dtype)):
            raise ConfigError(f"compose.sparsifier must keep entries as they are, {self.sparsifier} changes them")
        return self._coded(payload, value_K * np.float64(self._factor(len(value_K))), draws)

    def _factor(self, k: int) -> float:
        return 1.0 if isinstance(self.values, Contractive) or k == 0 else 1.0 / (1.0 + _omega(self.values, k))

    def alpha(self, d: int) -> float:
        assert isinstance(self.sparsifier, Contractive)
        most = self.sparsifier.num_kept(d)[1]
        kept = self.values.alpha(most) if isinstance(self.values, Contractive) else self._factor(most)
        return self.sparsifier.alpha(d) * kept


def _omega(compressor: Compressor, d: int) -> float:
    assert isinstance(compressor, Unbiased)
    return compressor.omega(d)


def compose(*, sparsifier: Inner, values: Inner) -> Compressor:
    """V(S(x)): the sparsifier S chooses K coordinates, V codes their values.

    With q = 1 + omega_V(K) and y = S(x):

        S unbiased, V unbiased          unbiased, omega = (1 + omega_S) q - 1
        S contractive, V contractive    alpha = alpha_S alpha_V(K):    |x - y|^2 + (1 - alpha_V)|y|^2 = |x|^2 - alpha_V |y|^2
        S contractive, V unbiased       alpha = alpha_S / q, with V applied to y / q:
                                        E|V(c y) - x|^2 <= |x|^2 - (2 c - c^2 q)|y|^2, which c = 1/q makes smallest

    A contractive S must keep entries as they are (Top-k, unscaled Rand-k), so that x - y and y have no coordinate in common
    and |y|^2 >= alpha_S |x|^2. V rounds with bits of its own. Source: Basu, Data, Karakus, Diggavi 2019, "Qsparse-local-SGD",
    section 2, for Top-k and Rand-k with unbiased values, with and without the factor; the proof is the formula on the right.

    Args:
        sparsifier: a compressor with `num_kept`, such as top_k, rand_k, perm_k; or a table that names it.
        values: a compressor that gives every entry a value, such as block_int8, natural, cast; or a table that names it.

    Raises:
        ConfigError: the kinds do not go together.

    Example:
        >>> up = compose(sparsifier={"name": "top_k", "k": 10}, values={"name": "nearest_int8"})
        >>> round(up.alpha(100), 4)
        0.1
    """
    outer, coder = as_compressor(sparsifier, "compose.sparsifier"), as_compressor(values, "compose.values")
    if not isinstance(outer, Sparsifier):
        raise ConfigError(f"compose.sparsifier must choose coordinates (top_k, rand_k, perm_k, ...), got {outer}")
    if isinstance(outer, Unbiased) and isinstance(coder, Unbiased):
        return _UnbiasedComposition(sparsifier=outer, values=coder)
    if isinstance(outer, Contractive) and isinstance(coder, Unbiased | Contractive):
        return _ContractiveComposition(sparsifier=outer, values=coder)
    raise ConfigError(
        f"compose cannot join a sparsifier that is {kind_of(outer) or 'of no kind'} with values that are "
        f"{kind_of(coder) or 'of no kind'}: an unbiased one needs unbiased values, a contractive one either"
    )
