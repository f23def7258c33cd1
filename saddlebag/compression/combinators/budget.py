"""Compressors that choose their parameter from a budget: the largest message that a number of bytes, or a link, allows."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from saddlebag.compression.base import Compressor, Contractive, Unbiased, errors_average, jointly, mean_noise
from saddlebag.compression.registry import make_compressor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Payload, Vector

__all__ = ["budget"]

HEADER_BYTES = 40
"""What a message needs at most beside its indices, levels and values."""
SLACK = 1.03
"""Encoded bytes by modelled ones, at most: index sets are coded within 3 % of their bound where all sets are as likely."""
_VARIED = ("k", "levels", "rank")
_MOST = 2**31


@functools.lru_cache(maxsize=64)
def largest(of: str, parameter: str, params: tuple[tuple[str, Any], ...], d: int, budget_bytes: int) -> int:
    """The largest whole value of `parameter`, from 1, with which a message of `d` coordinates fits the budget.

    Sizes are modelled (`bits`), with `SLACK` and `HEADER_BYTES`, and must not shrink as the parameter grows.

    Raises:
        ConfigError: the compressor cannot be made, or even the value 1 does not fit.
    """
    if d == 0:
        return 1  # any value: the message is empty

    def size(value: int) -> float:
        return make_compressor(of, **{parameter: value}, **dict(params)).bits(d) / 8.0 * SLACK + HEADER_BYTES

    if size(1) > budget_bytes:
        raise ConfigError(
            f"budget_bytes={budget_bytes} is too small for {of} at d={d}: {parameter}=1 may take {size(1):,.0f} bytes"
        )

    def fits(value: int) -> bool:
        try:
            return size(value) <= budget_bytes
        except ConfigError:  # beyond what the compressor takes
            return False

    low, high = 1, 2
    while high < _MOST and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclasses.dataclass(frozen=True)
class _Budget:
    """A compressor whose parameter follows from the dimension and the budget; see `budget`."""

    of: str
    parameter: str
    params: tuple[tuple[str, Any], ...]
    budget_bytes: int

    reference = "of the compressor chosen"

    def resolved(self, d: int) -> tuple[str, dict[str, Any]]:
        """The name and the parameters of the compressor in dimension `d`."""
        value = largest(self.of, self.parameter, self.params, d, self.budget_bytes)
        return self.of, {self.parameter: value, **dict(self.params)}

    def _at(self, d: int) -> Any:
        """The compressor in dimension `d`."""
        name, params = self.resolved(d)
        return make_compressor(name, **params)

    @property
    def common_draws(self) -> bool:
        """Whether workers share their draws."""
        return not errors_average(_least(self.of, self.parameter, dict(self.params)))

    def encode(self, x_D: Vector, draws: Draws) -> Payload:
        payload: Payload = self._at(len(x_D)).encode(x_D, draws)
        return payload

    def bits(self, d: int) -> float:
        return float(self._at(d).bits(d))


class _UnbiasedBudget(_Budget):
    def omega(self, d: int) -> float:
        return float(self._at(d).omega(d))

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """That of the compressor chosen."""
        return mean_noise(self._at(d), d, num_workers)


class _ContractiveBudget(_Budget):
    def alpha(self, d: int) -> float:
        return float(self._at(d).alpha(d))


class _BothBudget(_UnbiasedBudget, _ContractiveBudget):
    pass


def budget(
    *,
    of: str,
    budget_bytes: int | None = None,
    bandwidth: float | None = None,
    time_s: float | None = None,
    parameter: str | None = None,
    **params: Any,
) -> Compressor:
    """Compressor `of` with the largest k, number of levels or rank whose message fits a budget of bytes.

    The choice is a function of the dimension and of these numbers alone, so machines that share them agree on it; measure a
    link beforehand (`saddlebag advise`) and write what it gave.

    Args:
        of: name of the compressor.
        budget_bytes: of one message.
        bandwidth: instead, in bits per second,
        time_s: with the seconds that a message may take.
        parameter: what is chosen; by default the first of k, levels and rank that the compressor takes.
        **params: its other parameters.

    Raises:
        ConfigError: not exactly one budget is given, or the compressor takes none of the parameters.

    Example:
        >>> budget(of="top_k", budget_bytes=10_000).resolved(1_000_000)
        ('top_k', {'k': 1818})
    """
    if (budget_bytes is None) == (bandwidth is None) or (bandwidth is None) != (time_s is None):
        raise ConfigError("budget needs either budget_bytes, or bandwidth (bits per second) and time_s (seconds)")
    if bandwidth is not None and time_s is not None:
        if not (bandwidth > 0 and time_s > 0 and bandwidth * time_s / 8 < _MOST * 16):
            raise ConfigError(f"budget needs positive bandwidth and time_s, got {bandwidth} and {time_s}")
        budget_bytes = int(bandwidth * time_s / 8)
    if type(budget_bytes) is not int or budget_bytes < 1:
        raise ConfigError(f"budget.budget_bytes must be a whole number of at least 1, got {budget_bytes!r}")
    varied = parameter or _parameter_of(of, params)
    least = _least(of, varied, params)
    if jointly(least):
        raise ConfigError(f"budget cannot choose for {of}: the size of its messages follows from the number of workers")
    unbiased, contractive = isinstance(least, Unbiased), isinstance(least, Contractive)
    made = _BothBudget if unbiased and contractive else _UnbiasedBudget if unbiased else _ContractiveBudget
    return made(of, varied, tuple(sorted(params.items())), budget_bytes)


def _least(of: str, parameter: str, params: dict[str, Any]) -> Compressor:
    return make_compressor(of, **{parameter: 1}, **params)


def _parameter_of(of: str, params: dict[str, Any]) -> str:
    reason = None
    for name in _VARIED:
        try:
            _least(of, name, params)
        except ConfigError as error:
            reason = reason or error
        else:
            return name
    raise ConfigError(
        f"budget: {of} takes none of {', '.join(_VARIED)} with these parameters; name one in `parameter`: {reason}"
    )
