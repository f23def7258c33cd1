"""The dtypes in which a model's arrays travel: strategies give floating-point means of whole numbers, clients need whole ones.

Flower's strategies multiply by weights, so an integer array comes back as float64. It is rounded to the nearest whole number
(ties to the even one, as `numpy.rint`), kept within its dtype's range, and cast back; a boolean is true above one half. Where
all clients have returned the very same number, and the strategy's is that up to rounding, it is that number, beyond 2^53 too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from flwr.app import Array, ArrayRecord

from saddlebag.errors import NotFiniteError
from saddlebag.flower.compression.packing import array_kind, read_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Whole: TypeAlias = np.ndarray[Any, Any]
_WHOLE, _NUMBERS = "iub", "fiub"
_NEAR = 1e-9  # relative: float64 means of equal numbers over a million clients are nearer


class Dtypes:
    """What dtype each array of a model has.

    An array has the dtype in which it was first seen, in the model or in a client's reply. Whole numbers stay whole as long as
    clients return numbers that their dtype can hold; when they do not, the array takes on the clients' dtype.

    Attributes:
        apart: the floating-point arrays that were not finite when first seen, masks of infinities for example.
    """

    def __init__(self) -> None:
        self._dtypes: dict[str, str] = {}
        self._same: dict[str, tuple[Whole, Whole]] = {}  # of the first reply, and where all others agree with it
        self.apart: set[str] = set()

    def learn(self, record: ArrayRecord) -> None:
        """Take the dtypes of arrays that were not seen before."""
        for name, array in record.items():
            if name not in self._dtypes:
                self._dtypes[name] = array.dtype
                if array_kind(array) == "f" and not np.isfinite(read_array(name, array)).all():
                    self.apart.add(name)

    def listen(self, records: Iterable[ArrayRecord]) -> list[str]:
        """Take in what clients returned in a round; returns the names of the arrays that take on their dtype.

        Raises:
            RemoteProtocolError: an array's bytes do not fit what it says of itself.
        """
        replies: dict[str, list[Array]] = {}
        for record in records:
            for name, array in record.items():
                replies.setdefault(name, []).append(array)
        self._same, changed = {}, []
        for name, arrays in replies.items():
            known = np.dtype(self._dtypes[name]) if name in self._dtypes else None
            if known is None or known.kind not in _WHOLE:
                self.learn(ArrayRecord({name: arrays[0]}))
            elif not all(_fits(name, array, known) for array in arrays):
                numbers = {np.dtype(array.dtype) for array in arrays if array_kind(array) in tuple(_NUMBERS)}
                self._dtypes[name] = str(np.result_type(*numbers))
                changed.append(name)
            if len({(array.dtype, tuple(array.shape)) for array in arrays}) == 1 and array_kind(arrays[0]) in tuple(_WHOLE):
                values = [read_array(name, array) for array in arrays]
                self._same[name] = values[0], np.logical_and.reduce([value == values[0] for value in values])
        return changed

    def restored(self, record: ArrayRecord, *, only_whole: bool = False) -> ArrayRecord:
        """A strategy's model in these dtypes; the record itself where it has them already.

        Args:
            record: the model.
            only_whole: leave floating-point numbers as the strategy gave them.

        Raises:
            NotFiniteError: the strategy gave NaN or an infinity for whole numbers.
        """
        kinds = tuple(_WHOLE if only_whole else "fiubc")
        arrays = {name: self._cast(name, array, kinds) for name, array in record.items()}
        if all(array is record[name] for name, array in arrays.items()):
            return record
        return ArrayRecord(arrays)

    def _cast(self, name: str, array: Array, kinds: Sequence[str]) -> Array:
        known = self._dtypes.get(name, array.dtype)
        if known == array.dtype or array_kind(array) not in tuple(_NUMBERS + "c") or np.dtype(known).kind not in kinds:
            return array
        dtype, value = np.dtype(known), read_array(name, array, _NUMBERS + "c")
        if dtype.kind in _WHOLE:
            return self._whole(name, value, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            return Array(value.astype(dtype))

    def _whole(self, name: str, value: Whole, dtype: np.dtype[Any]) -> Array:
        if not np.isfinite(value).all():
            raise NotFiniteError(f"the strategy's model has nan or inf in array {name!r}, which holds whole numbers ({dtype})")
        whole = nearest(value, dtype)
        first, agree = self._same.get(name, (whole, np.zeros(value.shape, bool)))
        if first.shape != whole.shape or first.dtype != dtype:
            return Array(whole)
        near = np.isclose(value, first.astype(np.float64), rtol=_NEAR, atol=_NEAR)
        return Array(np.asarray(np.where(agree & near, first, whole)))


def _fits(name: str, array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether whole numbers of a dtype hold a reply's values without loss."""
    if array.dtype == str(dtype) or array_kind(array) not in tuple(_NUMBERS):
        return True
    value = read_array(name, array)
    return bool(np.isfinite(value).all() and (nearest(value, dtype) == value).all())


def nearest(value: Whole, dtype: np.dtype[Any]) -> Whole:
    """The nearest numbers that a dtype of whole numbers or booleans has: ties to even, what is out of range at its end."""
    if dtype.kind == "b":
        return np.asarray(value > 0.5)
    limits = np.iinfo(dtype)
    if value.dtype.kind == "b":
        return value.astype(dtype)
    if value.dtype.kind != "f":
        own = np.iinfo(value.dtype)
        return np.asarray(np.clip(value, max(limits.min, own.min), min(limits.max, own.max))).astype(dtype)
    rounded = np.rint(value.astype(np.float64))
    out = np.empty(value.shape, dtype)
    low, high = rounded <= float(limits.min), rounded >= float(limits.max)  # float(limits.max) may lie above limits.max
    out[...] = np.where(low | high, 0.0, rounded).astype(dtype)
    out[low], out[high] = limits.min, limits.max
    return out
