"""What a compressor does to a vector on this machine: error, bytes, speed. Sizes are those of encoded messages."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import Message
from saddlebag.compression import Concat, Draws, LowRank, Payload, Seeded, Sparse, Total
from saddlebag.launch.advice.entropy import entropy_bits, log2_binomial
from saddlebag.proto.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeGuard

    from saddlebag.compression import Compressor, Vector

__all__ = ["Measured", "family_of", "measure", "squared_errors", "timed"]

SEED = 0
_MOST_REPEATS = 25
_LEAST_REPEATS = 3  # the first one may compile, and touches fresh memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One compressor on one vector.

    Attributes:
        family: of its payload: "chosen coordinates", "seeded coordinates", "quantised", "low rank" or "combined".
        encoded_bytes: length of the message, in the mean over the draws.
        entropy_bytes: what an ideal coder would need for the first of them (`entropy.py`).
        index_bits, index_bound_bits: of chosen coordinates in the first of them, for each index: as encoded, and
            log2 C(d, k) / k; None for other layouts.
        model_bits: what the compressor's own cost model says.
        error2: E|C(x) - x|^2 / |x|^2 over the draws.
        draws: their number.
        compress_s: vector to payload; encode_s: payload to bytes; decode_s: bytes to payload; apply_s: bytes to payload, added
            to a vector. CPU time of the fastest of a few runs each.
    """

    family: str
    encoded_bytes: float
    entropy_bytes: float
    index_bits: float | None
    index_bound_bits: float | None
    model_bits: float
    error2: float
    draws: int
    compress_s: float
    encode_s: float
    decode_s: float
    apply_s: float


def timed(call: Callable[[], Any], seconds: float) -> float:
    """The CPU time of the fastest run of a call, within a budget of elapsed time: three runs at least, 25 at most.

    CPU time, since other processes of the machine hardly change it; what is timed runs in one thread.
    """
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_REPEATS or (len(times) < _MOST_REPEATS and time.perf_counter() < end):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return max(min(times), 1e-9)  # a clock may stand still


def family_of(payload: Payload) -> str:
    """Which kind of compression a payload shows."""
    for family, types in _FAMILIES.items():
        if isinstance(payload, types):
            return family
    return "quantised"


_FAMILIES: dict[str, Any] = {
    "chosen coordinates": Sparse,
    "seeded coordinates": Seeded,
    "low rank": LowRank,
    "combined": (Concat, Total),
}


def _bytes(payload: Payload) -> bytes:
    return b"".join(encode(Message((payload,))))


def _has_index(payload: Payload) -> TypeGuard[Sparse]:
    return isinstance(payload, Sparse) and len(payload.index_K) > 0


def _index_bits(payload: Payload, size: int) -> float | None:
    """What is left of a message of `size` bytes without its values, for each index."""
    if not _has_index(payload):
        return None
    return 8.0 * (size - len(_bytes(payload.value))) / len(payload.index_K)


def squared_errors(compressor: Compressor, x_D: Vector, draws: int) -> tuple[list[float], list[int]]:
    """|C(x) - x|^2 / |x|^2, and the bytes of the message, for the first draws of a run; a zero vector has error 0."""
    norm2 = float(np.dot(x_D, x_D.astype(np.float64)))
    errors, sizes = [], []
    for round_ in range(draws):
        payload = compressor.encode(x_D, Draws(SEED, round_, 0))
        error_D = payload.dense()
        error_D -= x_D
        errors.append(float(np.dot(error_D, error_D)) / norm2 if norm2 else 0.0)
        sizes.append(len(_bytes(payload)))
    return errors, sizes


def measure(compressor: Compressor, x_D: Vector, *, draws: int, seconds: float = 0.3) -> Measured:
    """Measure a compressor on a vector.

    Args:
        compressor: whatever `compressor.encode` accepts the vector.
        x_D: any float dtype, shape (D,).
        draws: how often the error and the size are measured, with other random draws.
        seconds: budget of each of the four timings.

    Raises:
        ConfigError: the compressor's parameters do not fit the dimension.
        NotFiniteError: the vector is not finite.
    """
    errors, sizes = squared_errors(compressor, x_D, draws)
    here = Draws(SEED, 0, 0)
    payload = compressor.encode(x_D, here)
    data = _bytes(payload)
    out_D = np.zeros(len(x_D))
    return Measured(
        family=family_of(payload),
        encoded_bytes=float(np.mean(sizes)),
        entropy_bytes=entropy_bits(payload) / 8.0,
        index_bits=_index_bits(payload, len(data)),
        index_bound_bits=log2_binomial(len(x_D), len(payload.index_K)) / len(payload.index_K) if _has_index(payload) else None,
        model_bits=compressor.bits(len(x_D)),
        error2=float(np.mean(errors)),
        draws=draws,
        compress_s=timed(lambda: compressor.encode(x_D, here), seconds),
        encode_s=timed(lambda: _bytes(payload), seconds),
        decode_s=timed(lambda: decode(data, (len(x_D),), here), seconds),
        apply_s=timed(
            lambda: decode(data, (len(x_D),), here).parts[0].add_to(out_D), seconds
        ),  # payloads keep what they unpack
    )
