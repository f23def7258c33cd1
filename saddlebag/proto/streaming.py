"""Messages that arrive in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import Message
from saddlebag.compression import Dense, Draws, Payload
from saddlebag.errors import RemoteProtocolError
from saddlebag.proto.codec import decode, max_message_bytes
from saddlebag.proto.coding.flat import DENSE, finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from saddlebag.proto.reader import Buffer

__all__ = ["Assembly", "StreamDecoder", "assemble"]


class StreamDecoder:
    """Decodes a message while its bytes arrive; slices of dense parts come out at once, other parts at the end.

    Holds the bytes from the first part that is not dense, so such parts should come last.
    """

    def __init__(self, sizes: tuple[int, ...], draws: Draws, total: int) -> None:
        if total > max_message_bytes(sizes):
            raise RemoteProtocolError(
                f"a message of {total} bytes exceeds the {max_message_bytes(sizes)} that its schema allows"
            )
        self._sizes, self._draws = sizes, draws
        self._missing = total
        self._part = 0  # index of the part that arrives
        self._dense: np.dtype[Any] | None = None  # its type while it is a dense one
        self._done = 0  # coordinates of it already given out
        self._held = bytearray()

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return self._missing == 0

    def feed(self, data: Buffer) -> Iterator[tuple[int, int, Payload]]:
        """Take the next bytes; yields (part, first coordinate, payload of the coordinates from there)."""
        if len(data) > self._missing:
            raise RemoteProtocolError(f"a message is {len(data) - self._missing} bytes longer than announced")
        self._missing -= len(data)
        if self.complete and not (self._part or self._dense or self._held):  # the usual case: all of it in one frame
            for part, payload in enumerate(decode(data, self._sizes, self._draws).parts):
                yield part, 0, payload
            return
        view = memoryview(data)
        if self._held and self._dense is None:  # a part that is not dense waits for the end, and so does what follows it
            self._held += view
            view = view[:0]
        elif self._held:  # the first bytes of a value
            view = memoryview(bytes(self._held) + view)
            self._held.clear()
        while len(view):
            if self._dense is None:
                if self._part < len(self._sizes) and view[0] in DENSE:
                    self._dense, view = DENSE[view[0]], view[1:]
                    continue
                break
            left = self._sizes[self._part] - self._done
            count = min(left, len(view) // self._dense.itemsize)
            if count:
                value_D = np.frombuffer(view[: count * self._dense.itemsize], self._dense)
                yield self._part, self._done, Dense(finite(value_D))
                self._done, view = self._done + count, view[count * self._dense.itemsize :]
            if count < left:
                break
            self._part, self._dense, self._done = self._part + 1, None, 0
        self._held += view
        if self.complete:
            yield from self._rest()

    def _rest(self) -> Iterator[tuple[int, int, Payload]]:
        if self._dense is not None:
            raise RemoteProtocolError("a message is cut short in a dense part")
        held, self._held = self._held, bytearray()  # the payloads are views of it: not copied, and not to be changed
        rest = decode(memoryview(held).toreadonly(), self._sizes[self._part :], self._draws)
        for offset, payload in enumerate(rest.parts):
            yield self._part + offset, 0, payload


class Assembly:
    """Puts the pieces together that a `StreamDecoder` gives out, each when it comes: slices need no memory of their own."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._parts: dict[int, Payload] = {}

    def add(self, pieces: Iterable[tuple[int, int, Payload]]) -> None:
        """Take the next pieces."""
        for part, start, payload in pieces:
            if payload.dimension == self._sizes[part]:
                self._parts[part] = payload
                continue
            assert isinstance(payload, Dense), "only dense parts come in slices"
            if part not in self._parts:
                self._parts[part] = Dense(np.empty(self._sizes[part], payload.value_D.dtype))
            whole = self._parts[part]
            assert isinstance(whole, Dense)
            whole.value_D[start : start + payload.dimension] = payload.value_D

    def message(self) -> Message:
        """The message, once every piece has come."""
        return Message(tuple(self._parts[part] for part in range(len(self._sizes))))


def assemble(pieces: Iterable[tuple[int, int, Payload]], sizes: tuple[int, ...]) -> Message:
    """The message whose pieces a `StreamDecoder` gave out, in that order."""
    assembly = Assembly(sizes)
    assembly.add(pieces)
    return assembly.message()
