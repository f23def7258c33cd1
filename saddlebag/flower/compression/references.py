"""What every client holds of the model, as the server knows it: the model's innovations against that are what travels down.

A client that was last heard at reference r gets C(x - r) for the strategy's model x and holds r + C(x - r) afterwards, however
many rounds it sat out: one message, in place of one for every round it missed. What C leaves out is part of the next
innovation, so with a contractive C the client follows x (EF21 of Richtarik et al. 2021, on the downlink, for each client).
One that holds nothing that the server knows starts from zero, with 16 bits a value where that is shorter than the model.
Clients that have received the same messages share one reference and one payload: with everybody in every round there is one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.compression import SERVER, Cast, Draws, track
from saddlebag.errors import NotFiniteError, RemoteProtocolError
from saddlebag.flower.compression.link import vector_digest
from saddlebag.flower.compression.packing import pack_payload, rounded

if TYPE_CHECKING:
    from flwr.app import Array

    from saddlebag.compression import Compressor, Vector
    from saddlebag.flower.compression.packing import Schema

_KEPT = 256  # references, each of the model's size; the holders of older ones start from zero


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """How a client comes to a reference.

    Attributes:
        base: number of the reference that it starts from; -1 for none, that is, from zero.
        version: number of the reference that it comes to.
        step: the payload; None where the model itself is sent.
        digest: of the reference.
        relaid: whether the model's schema is another one than that of the base.
    """

    base: int
    version: int
    step: Array | None
    digest: int
    relaid: bool = False


class References:
    """The references that clients hold, by number, and who holds which.

    Args:
        compressor: of the steps, contractive.
        schema: of the model.
        seed: of the compressor's draws, with the number of the new reference.
    """

    def __init__(self, compressor: Compressor, schema: Schema, seed: int) -> None:
        self._compressor, self._schema, self._seed = compressor, schema, seed
        self._schemas: dict[int, Schema] = {}
        self._values: dict[int, np.ndarray[Any, Any]] = {}
        self._held: dict[int, int] = {}  # node -> number, once it has been heard
        self._sent: dict[int, int] = {}  # node -> number, until then: one that is not heard may hold either
        self._next = self._shortest = 0  # the latter: bytes of a model that starts from zero
        self._target_D: Vector = np.empty(0)
        self._ways: dict[int, Way] = {}  # of this exchange, by base

    def begin(self, target_D: Vector, whole_bytes: int, schema: Schema | None = None) -> None:
        """An exchange begins: clients are to come to (nearly) this model, of so many bytes; of this schema from now on."""
        if schema is not None and schema != self._schema:
            self._schema, self._shortest = schema, whole_bytes
        self._target_D, self._whole_bytes = rounded(target_D, self._schema), whole_bytes
        self._ways.clear()
        self._sent.clear()
        needed = sorted(set(self._held.values()))[-_KEPT:]
        self._values = {number: self._values[number] for number in needed}
        self._schemas = {number: self._schemas[number] for number in needed}
        self._held = {node: number for node, number in self._held.items() if number in self._values}

    def way(self, node: int) -> Way:
        """What one client is sent; it holds an unknown reference until `heard`."""
        base = self._held.pop(node, -1)
        if base not in self._ways:
            self._ways[base] = self._step(base) if base >= 0 else self._whole()
        self._sent[node] = self._ways[base].version
        return self._ways[base]

    def heard(self, node: int, version: int) -> Vector:
        """A client has replied; returns the reference that it trained from, float64 (D,).

        Raises:
            RemoteProtocolError: it reports another reference than it was sent.
        """
        if self._sent.get(node) != version:
            raise RemoteProtocolError(f"client {node} reports version {version}, it was sent {self._sent.get(node)}")
        self._held[node] = self._sent.pop(node)
        return self._values[version].astype(np.float64)

    def _whole(self) -> Way:
        """Half of float32's bytes, rounded once to a relative 2^-8, which the next step mends; else the model itself."""
        if -1 in self._ways:
            return self._ways[-1]
        with contextlib.suppress(NotFiniteError):  # a model that has diverged travels as it is
            step, reference_D = self._compressed(Cast(), np.zeros(self._schema.dimension))
            if len(step.data) < self._whole_bytes:
                self._shortest = len(step.data)
                return self._new(-1, step, reference_D)
        self._shortest = self._whole_bytes
        return self._new(-1, None, self._target_D)

    def _step(self, base: int) -> Way:
        held = self._schemas[base]
        if not self._schema.places.keys() <= held.places.keys():  # the model has arrays that this client never had
            return self._from_zero()
        held_D = self._schema.project(self._values[base].astype(np.float64), held)
        try:
            step, reference_D = self._compressed(self._compressor, held_D)
        except NotFiniteError:  # a model that has diverged travels as it is
            return self._from_zero()
        if len(step.data) > self._shortest:
            return self._from_zero()
        return self._new(base, step, reference_D)

    def _from_zero(self) -> Way:
        self._ways[-1] = self._whole()
        return self._ways[-1]

    def _compressed(self, compressor: Compressor, held_D: Vector) -> tuple[Array, Vector]:
        """The payload that takes a client from what it holds towards the model, and what it holds then."""
        payload, stepped_D = track(compressor, self._target_D, held_D, Draws(self._seed, self._next, SERVER))
        return pack_payload(payload), rounded(stepped_D, self._schema)

    def _new(self, base: int, step: Array | None, reference_D: Vector) -> Way:
        number, self._next = self._next, self._next + 1
        narrow = np.result_type(np.float16, *self._schema.dtypes)  # holds every reference without loss
        self._values[number], self._schemas[number] = reference_D.astype(narrow), self._schema
        relaid = base >= 0 and self._schemas[base] != self._schema
        return Way(base, number, step, vector_digest(reference_D), relaid)
