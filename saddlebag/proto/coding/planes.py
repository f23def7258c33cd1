"""Numbers of 16 bits whose exponents repeat: two squeezed planes of bytes.

Every number is rotated left by one bit, so the sign comes last: the high bytes are then bfloat16's exponents (or float16's with
three bits of the fraction), of which a vector has few, and go first; the low bytes follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from saddlebag.proto.coding.squeeze import squeeze, unsqueeze

if TYPE_CHECKING:
    from saddlebag.proto.reader import Reader

__all__ = ["decode_planes", "encode_planes"]

_LEAST = 128  # numbers below which two frames' own bytes outweigh what they could save
_RUNS, _RUN = 8, 4096  # of a sample that tells whether the planes of a large vector are worth squeezing
_WORTH = 0.95  # of the plain size: less is not worth the time


def encode_planes(bits_D: npt.NDArray[np.uint16]) -> bytes | None:
    """The planes, or None where they save too little."""
    count = len(bits_D)
    if count < _LEAST:
        return None
    if count > _RUNS * _RUN:
        starts = np.linspace(0, count - _RUN, _RUNS).astype(np.int64).tolist()
        sample = np.concatenate([bits_D[start : start + _RUN] for start in starts])
        if len(_squeezed(sample)) > _WORTH * sample.nbytes:
            return None
    data = _squeezed(bits_D)
    return data if len(data) <= _WORTH * bits_D.nbytes else None


def _squeezed(bits_D: npt.NDArray[np.uint16]) -> bytes:
    rotated_D = bits_D << np.uint16(1) | bits_D >> np.uint16(15)
    planes = ((rotated_D >> np.uint16(8)).astype(np.uint8), rotated_D.astype(np.uint8))
    return b"".join(squeeze(plane_D.tobytes()) for plane_D in planes)


def decode_planes(reader: Reader, count: int) -> npt.NDArray[np.uint16]:
    """The `count` numbers here.

    Raises:
        RemoteProtocolError: the bytes are no such planes.
    """
    high_D, low_D = (np.frombuffer(unsqueeze(reader, count, count), np.uint8) for _ in range(2))
    rotated_D = high_D.astype(np.uint16) << np.uint16(8) | low_D
    return rotated_D >> np.uint16(1) | rotated_D << np.uint16(15)
