"""How the ranks of a DDP program average gradients through a compressor: messages gathered, or values reduced.

Shapes: D = coordinates of a tensor, N = values of an exchange.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.distributed as dist

from saddlebag.algorithms import Message
from saddlebag.compression import Draws, Identity, PowerSGD, PowerState, RandK, Seeded, Sum, Tensor, UnscaledRandK, feed_back
from saddlebag.compression.base import Absolute, Contractive, jointly
from saddlebag.compression.combinators.per_tensor import choose
from saddlebag.compression.compressors.power_sgd import together
from saddlebag.errors import ConfigError, NotFiniteError, RemoteProtocolError
from saddlebag.proto.codec import decode, encode, max_message_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from saddlebag.compression import Compressor, Payload, Rule, Vector

__all__ = ["POWER_SGD", "Coded", "Exchange", "Kept", "Piece", "Power", "PowerRule", "Ranks"]

POWER_SGD = "power_sgd"
"""The name of what is no compressor of one rank's vector, but of the ranks' mean."""

Kept = dict[str, Any]
"""What outlives a step: "memory.NAME" is what a tensor still owes, "start.NAME" PowerSGD's warm start."""
_NOT_FINITE = -1  # a length that says: no message, the gradient was not finite


@dataclasses.dataclass(frozen=True)
class Piece:
    """One tensor of a bucket, and this rank's gradient of it, (D,), float32 or float64."""

    tensor: Tensor
    x_D: Vector

    @property
    def name(self) -> str:
        return self.tensor.name


class Ranks:
    """The collectives of one process group whose tensors lie on the host, and the bytes that went through them.

    Attributes:
        bytes_up, bytes_down: handed to the collectives, and taken from them: for a gather the padded messages (this rank's, and
            the others'), for a reduction the vector once each way. What a ring adds inside a collective is not in them.
        sent: of `bytes_up` what belongs to a parameter, by its name: all but lengths and padding.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.bytes_up = self.bytes_down = 0
        self.sent: collections.Counter[str] = collections.Counter()

    def rows(self, own: bytes) -> list[bytes]:
        """Every rank's bytes, in rank order; all have the same length. Not counted: it is no part of a step."""
        mine = torch.from_numpy(np.frombuffer(own, np.uint8).copy())
        out = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(out, mine, group=self._group)
        return [row.numpy().tobytes() for row in out]

    def mean(self, x_N: Vector) -> Vector:
        """The mean over the ranks, in the dtype of `x_N`; the same bits on all of them."""
        total_N = torch.from_numpy(x_N).clone()
        dist.all_reduce(total_N, group=self._group)
        self._count(x_N.nbytes, x_N.nbytes)
        mean_N: Vector = total_N.div_(self.size).numpy()
        return mean_N

    def messages(self, data: bytes | None, most: int) -> list[bytes] | None:
        """Every rank's message, in rank order; None where some rank has none. Two gathers: the lengths, then what is padded.

        Raises:
            RemoteProtocolError: a length beyond `most`, on all ranks alike and before anything is allocated.
        """
        own = torch.tensor([_NOT_FINITE if data is None else len(data)], dtype=torch.int64)
        lengths = self._gathered(own).tolist()
        for rank, length in enumerate(lengths):
            if not _NOT_FINITE <= length <= most:
                raise RemoteProtocolError(f"rank {rank} announces a message of {length} bytes; 0 to {most} are allowed")
        if data is None or _NOT_FINITE in lengths:
            return None
        longest = max(lengths)
        padded = torch.from_numpy(np.frombuffer(data.ljust(longest, b"\0"), np.uint8).copy())
        rows = self._gathered(padded).numpy().reshape(self.size, longest)
        return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]

    def _gathered(self, own: torch.Tensor) -> torch.Tensor:
        out = torch.empty(self.size * len(own), dtype=own.dtype)
        dist.all_gather(list(out.view(self.size, -1).unbind()), own, group=self._group)
        num_bytes = own.element_size() * len(own)
        self._count(num_bytes, num_bytes * (self.size - 1))
        return out

    def _count(self, up: int, down: int) -> None:
        self.bytes_up += up
        self.bytes_down += down


class Exchange(Protocol):
    """Averages the tensors of a bucket over the ranks."""

    def begin(self) -> Kept:
        """What is kept before the first step."""

    def compressor_of(self, name: str) -> str:
        """What a parameter goes through, for people."""

    def step(self, pieces: Sequence[Piece], kept: Kept, draws: Draws, ranks: Ranks) -> tuple[list[Vector], Kept] | None:
        """The compressed means, each (D,), and what is to be kept of these tensors; None where a rank's is not finite."""


class Coded:
    """Every tensor through its rule's compressor: as the codec's bytes, gathered; where coordinates agree, reduced."""

    def __init__(self, tensors: Sequence[Tensor], rules: Sequence[Rule], ranks: int, *, feedback: bool) -> None:
        self._tensors = tensors
        self._compressor: dict[str, Compressor] = {tensor.name: choose(tensor, rules) for tensor in tensors}
        for name, compressor in self._compressor.items():
            workers = jointly(compressor)
            if workers not in (0, ranks):
                raise ConfigError(f"the compressor of {name!r} is for {workers} workers together, and there are {ranks} ranks")
        self._feedback = feedback

    def begin(self) -> Kept:
        return {f"memory.{tensor.name}": np.zeros(tensor.size) for tensor in self._tensors if self._remembers(tensor.name)}

    def compressor_of(self, name: str) -> str:
        return str(self._compressor[name])

    def _remembers(self, name: str) -> bool:
        """A memory needs a contraction (or a bounded error): beside an unbiased compressor it would grow."""
        compressor = self._compressor[name]
        return self._feedback and isinstance(compressor, Contractive | Absolute) and not isinstance(compressor, Identity)

    def step(self, pieces: Sequence[Piece], kept: Kept, draws: Draws, ranks: Ranks) -> tuple[list[Vector], Kept] | None:
        own = draws.of(ranks.rank)
        payloads: dict[str, Payload] | None
        try:
            payloads, after = self._encode(pieces, kept, own)
        except NotFiniteError:
            payloads, after = None, {}
        reduced = [piece for piece in pieces if self._agrees(piece.name)]
        gathered = [piece for piece in pieces if not self._agrees(piece.name)]
        means = self._reduce(reduced, payloads, own, ranks) if reduced else {}
        more = self._gather(gathered, payloads, draws, ranks) if gathered else {}
        if means is None or more is None:
            return None
        return [(means | more)[piece.name] for piece in pieces], after

    def _encode(self, pieces: Sequence[Piece], kept: Kept, own: Draws) -> tuple[dict[str, Payload], Kept]:
        payloads: dict[str, Payload] = {}
        after: Kept = {}
        for piece in pieces:
            compressor, key = self._compressor[piece.name], f"memory.{piece.name}"
            if key in kept:
                payloads[piece.name], after[key] = feed_back(compressor, piece.x_D, kept[key], own)
            else:
                payloads[piece.name] = compressor.encode(piece.x_D, own)
        return payloads, after

    def _agrees(self, name: str) -> bool:
        """Whether all ranks send the same coordinates, whatever the gradient: known from the compressor alone."""
        compressor = self._compressor[name]
        return isinstance(compressor, Identity) or (
            isinstance(compressor, RandK | UnscaledRandK) and compressor.support == "common"
        )

    def _reduce(
        self, pieces: Sequence[Piece], payloads: Mapping[str, Payload] | None, own: Draws, ranks: Ranks
    ) -> dict[str, Vector] | None:
        """One reduction of float32 values (float64 where an identity says so); NaN in it tells every rank."""
        shape = payloads or {piece.name: self._compressor[piece.name].encode(np.zeros_like(piece.x_D), own) for piece in pieces}
        values = [_values(shape[piece.name]) for piece in pieces]
        wide = any(isinstance(kind := self._compressor[piece.name], Identity) and kind.dtype == "float64" for piece in pieces)
        sent_N: Vector = np.concatenate(values).astype(np.float64 if wide else np.float32)
        if payloads is None:
            sent_N[:] = np.nan
        mean_N = ranks.mean(sent_N)
        if not np.isfinite(mean_N).all():
            return None
        ranks.sent.update({p.name: len(value) * sent_N.itemsize for p, value in zip(pieces, values, strict=True)})
        out, at = {}, 0
        for piece, value in zip(pieces, values, strict=True):
            payload, mean = shape[piece.name], mean_N[at : at + len(value)]
            out[piece.name] = mean if len(value) == len(piece.x_D) else np.zeros(len(piece.x_D))
            if isinstance(payload, Seeded) and len(value) < len(piece.x_D):
                out[piece.name][payload.index_K] = mean
            at += len(value)
        return out

    def _gather(
        self, pieces: Sequence[Piece], payloads: Mapping[str, Payload] | None, draws: Draws, ranks: Ranks
    ) -> dict[str, Vector] | None:
        """One message of the codec from every rank, added in rank order."""
        sizes = tuple(piece.tensor.size for piece in pieces)
        data = None
        if payloads is not None:
            parts = {piece.name: b"".join(encode(Message((payloads[piece.name],)))) for piece in pieces}
            data = b"".join(parts.values())  # a message is its parts one after the other
        messages = ranks.messages(data, max_message_bytes(sizes))
        if messages is None or payloads is None:
            return None
        ranks.sent.update({name: len(part) for name, part in parts.items()})
        sums = [Sum(size) for size in sizes]
        for rank, message in enumerate(messages):
            for total, part in zip(sums, decode(message, sizes, draws.of(rank)).parts, strict=True):
                total.add(part)
        return {piece.name: total.mean(ranks.size).dense() for piece, total in zip(pieces, sums, strict=True)}


def _values(payload: Payload) -> Vector:
    """What a reduction adds: the values at common coordinates, or all of them (an identity may leave out zeros)."""
    return payload.value.value_D if isinstance(payload, Seeded) else payload.dense()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerRule:
    """PowerSGD's parameters; see `PowerSGD`."""

    rank: int = 1
    worth: float = 0.5


class Power:
    """PowerSGD (Vogels, Karimireddy, Jaggi 2019): two reductions a bucket, of P and of Q; vectors travel in the first."""

    def __init__(self, tensors: Sequence[Tensor], *, rank: int = 1, worth: float = 0.5) -> None:
        self._tensors = tensors
        self._method = {t.name: PowerSGD(shapes=(t.shape or (1,),), rank=rank, worth=worth) for t in tensors}

    def begin(self) -> Kept:
        kept: Kept = {}
        for name, method in self._method.items():
            state = method.begin(Draws(0, 0), np.float32)
            kept |= {f"memory.{name}": state.memory_D, f"start.{name}": state.start_N}
        return kept

    def compressor_of(self, name: str) -> str:
        method = self._method[name]
        (_, columns), *_ = method.matrices()
        return f"power_sgd of rank {method.rank}" if columns else "power_sgd, uncompressed"

    def step(self, pieces: Sequence[Piece], kept: Kept, draws: Draws, ranks: Ranks) -> tuple[list[Vector], Kept] | None:
        methods = [self._method[piece.name] for piece in pieces]
        states = [PowerState(kept[f"memory.{piece.name}"], kept[f"start.{piece.name}"]) for piece in pieces]
        with np.errstate(over="ignore"):
            owned = [piece.x_D.astype(np.float32) for piece in pieces]
        if not all(np.isfinite(x_D).all() for x_D in owned):  # the others wait for this rank's first exchange
            size = sum(method.exchange_sizes()[0] for method in methods)
            ranks.mean(np.full(size, np.nan, np.float32))
            return None
        exchanges = together([m.step(x_D, s, draws) for m, x_D, s in zip(methods, owned, states, strict=True)])
        asked = next(exchanges)
        while True:
            mean_N = ranks.mean(np.ascontiguousarray(asked))
            if not np.isfinite(mean_N).all():
                exchanges.close()
                return None
            try:
                asked = exchanges.send(mean_N)
            except StopIteration as end:
                results: list[tuple[Vector, PowerState]] = end.value
                break
        ranks.sent.update({p.name: 4 * sum(m.exchange_sizes()) for p, m in zip(pieces, methods, strict=True)})
        after: Kept = {}
        for piece, (_, state) in zip(pieces, results, strict=True):
            after |= {f"memory.{piece.name}": state.memory_D, f"start.{piece.name}": state.start_N}
        return [out_D for out_D, _ in results], after
