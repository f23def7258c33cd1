"""The server's half of a round of secure aggregation: collects each step's messages, whoever drops out, and unmasks the sum."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from saddlebag.errors import LocalProtocolError, PeerLost, RemoteProtocolError
from saddlebag.proto.seal import checksum
from saddlebag.proto.secure.identity import SIGNED_BYTES
from saddlebag.proto.secure.member import pair_purpose
from saddlebag.proto.secure.messages import (
    KEYS_BYTES,
    SEALED_BYTES,
    Step,
    encode_ranks,
    encode_rows,
    encode_table,
    sliced,
)
from saddlebag.proto.secure.primitives import KEY_BYTES, KeyPair, committed, masking_keys, own_mask, require_cryptography
from saddlebag.proto.secure.sharing import SHARE_BYTES, join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from saddlebag.proto.reader import Buffer
    from saddlebag.proto.secure.ring import Masked, Ring

__all__ = ["Aggregation", "check_keys"]


class Aggregation:
    """One round. `take` messages of the present step, then `close` it with those who are there, four times; then `levels`.

    Args:
        members: ranks that may take part.
        threshold: t: fewer than t members at the end of a step end the round.
        ring: of the round.

    Attributes:
        step: the present one; None after the last.
        arrived: whose vectors are in the sum, from the end of the step `masked` on.
        refused: who has sent what, of those whose message was of no use though the round went on.

    Raises:
        ConfigError: the package `cryptography` is missing.
    """

    def __init__(self, members: Iterable[int], *, threshold: int, ring: Ring) -> None:
        require_cryptography()
        self._expected = tuple(sorted(members))
        self._threshold, self._ring = threshold, ring
        self.step: Step | None = Step.KEYS
        self._said: dict[Step, dict[int, bytes]] = {step: {} for step in Step}
        self._commitments: dict[int, bytes] = {}
        self._parcels: dict[int, dict[int, bytes]] = {}  # sealed shares: from whom, for whom
        self._sum: Masked | None = None
        self.arrived: tuple[int, ...] = ()
        self.refused: dict[int, str] = {}

    @property
    def expected(self) -> tuple[int, ...]:
        """Who may speak in this step: who has spoken in the one before."""
        return self._expected

    def missing(self) -> list[int]:
        """Who has not spoken in this step."""
        return [] if self.step is None else [rank for rank in self._expected if rank not in self._said[self.step]]

    @property
    def enough(self) -> bool:
        """Whether this step could be closed."""
        return self.step is not None and len(self._said[self.step]) >= self._threshold

    def drop(self, worker: int) -> None:
        """Go on without a member that has not spoken in this step."""
        if self.step is not None and worker not in self._said[self.step]:
            self._expected = tuple(rank for rank in self._expected if rank != worker)

    def has(self, step: Step, worker: int) -> bool:
        """Whether this member has spoken in this step."""
        return worker in self._said[step]

    def take(self, step: Step, worker: int, data: Buffer) -> None:
        """A message; one that comes a second time, or to a step that is closed, is left aside.

        Raises:
            RemoteProtocolError: it is no such message, differs from what this worker has said before, or the worker is not
                expected, and who it was.
        """
        raw = bytes(data)
        kept = checksum(raw).to_bytes(4, "little") if step is Step.MASKED else raw  # a vector is added at once, and not kept
        before = self._said[step].get(worker)
        if before is not None and before != kept:
            raise RemoteProtocolError(f"worker {worker} has sent other {step.name.lower()} in this round before")
        if before is not None or self.step is None or step < self.step:
            return
        if step is not self.step or worker not in self._expected:
            raise RemoteProtocolError(f"worker {worker} is not expected to send {step.name.lower()}")
        try:
            self._check(step, worker, raw)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"worker {worker}'s {step.name.lower()}: {error}") from error
        self._said[step][worker] = kept

    def _check(self, step: Step, worker: int, raw: bytes) -> None:
        match step:
            case Step.KEYS:
                check_keys(raw)
            case Step.SHARES:
                others = [rank for rank in self._said[Step.KEYS] if rank != worker]  # whoever has dropped out since
                self._commitments[worker], self._parcels[worker] = sliced(raw, others, SEALED_BYTES, KEY_BYTES)
            case Step.MASKED:
                vector = self._ring.decode(raw)
                self._sum = (self._sum or self._ring.zero()).plus(vector)  # order does not matter: whole numbers
            case Step.UNMASK:
                sliced(raw, self._said[Step.SHARES], SHARE_BYTES)

    def close(self) -> dict[int, bytes]:
        """End the step with those who have spoken; what each of them is to be told.

        Raises:
            PeerLost: they are fewer than t, and the round cannot go on.
            RemoteProtocolError: masks do not cancel, or shares are wrong, and whose.
        """
        if self.step is None:
            raise LocalProtocolError("the round is over")
        step, there = self.step, tuple(sorted(self._said[self.step]))
        if len(there) < self._threshold:
            raise PeerLost(
                f"secure aggregation needs {self._threshold} workers, and {len(there)} have sent {step.name.lower()}"
            )
        self._expected = there
        self.step = None if step is Step.UNMASK else Step(step + 1)
        match step:
            case Step.KEYS:
                roster = encode_rows(self._said[step])
                return dict.fromkeys(there, roster)
            case Step.SHARES:
                return {
                    rank: encode_table({each: self._parcels[each][rank] for each in there if each != rank}) for rank in there
                }
            case Step.MASKED:
                self.arrived = there
                return dict.fromkeys(there, encode_ranks(there))
            case _:
                return {}

    def levels(self) -> npt.NDArray[np.int64]:
        """The sum of the levels of those who have arrived, after the last step, shape (D,).

        Raises:
            RemoteProtocolError: a secret cannot be put together, or masks do not cancel.
        """
        assert self.step is None, "close every step first"
        assert self._sum is not None
        answers = {rank: self._rows(rank) for rank in sorted(self._said[Step.UNMASK])}
        total, context = self._sum, self._ring.context
        keys = self._said[Step.KEYS]
        for rank in sorted(self._said[Step.SHARES]):
            shares = {each: rows[rank] for each, rows in answers.items()}
            if rank in self.arrived:
                own = self._secret(rank, shares, functools.partial(_commits, self._commitments[rank], context))
                total = self._ring.with_mask(total, own_mask(own, context), -1)
                continue
            public = keys[rank][KEY_BYTES:KEYS_BYTES]
            pair = masking_keys(self._secret(rank, shares, functools.partial(_is_key, public)))
            for other in self.arrived:
                key = pair.shared(keys[other][KEY_BYTES:KEYS_BYTES], pair_purpose(context, rank, other))
                total = self._ring.with_mask(total, key, -1 if other < rank else 1)
        try:
            return self._ring.levels(total, len(self.arrived))
        except RemoteProtocolError as error:
            who = ", ".join(map(str, self.arrived))
            raise RemoteProtocolError(f"{error}: one of workers {who} has not masked by the keys that it has sent") from error

    def _rows(self, rank: int) -> Mapping[int, bytes]:
        return sliced(self._said[Step.UNMASK][rank], self._said[Step.SHARES], SHARE_BYTES)[1]

    def _secret(self, owner: int, shares: Mapping[int, bytes], fits: Callable[[bytes], bool]) -> bytes:
        """The owner's secret from t shares; where one of them is wrong, from others, and its sender is named in `refused`."""
        doubted: list[int | None] = [None, *(rank for rank in shares if len(shares) > self._threshold)]
        for wrong in doubted:
            chosen = [rank for rank in shares if rank != wrong and rank not in self.refused][: self._threshold]
            if len(chosen) < self._threshold:
                continue
            try:
                secret = join({rank: shares[rank] for rank in chosen})
            except RemoteProtocolError:
                continue
            if fits(secret):
                if wrong is not None:
                    self.refused[wrong] = f"worker {wrong}'s share of worker {owner}'s secret is wrong"
                return secret
        raise RemoteProtocolError(
            f"the shares of worker {owner}'s secret do not fit: its own, or those of several workers, are wrong"
        )


def check_keys(raw: bytes) -> None:
    """Raise `RemoteProtocolError` unless these are two public keys, signed or not."""
    sliced(raw[:KEYS_BYTES], (), 0, KEYS_BYTES)
    if len(raw) not in (KEYS_BYTES, KEYS_BYTES + SIGNED_BYTES):
        raise RemoteProtocolError(f"it must have {KEYS_BYTES} bytes, or {SIGNED_BYTES} more that sign them, got {len(raw)}")
    for at in (0, KEY_BYTES):
        _probe().shared(raw[at : at + KEY_BYTES], b"")


@functools.cache
def _probe() -> KeyPair:
    """Any partner: a key that leads everybody to one secret shows with it."""
    return KeyPair(bytes(range(KEY_BYTES)))


def _commits(commitment: bytes, context: bytes, secret: bytes) -> bool:
    return committed(secret, context) == commitment


def _is_key(public: bytes, secret: bytes) -> bool:
    return masking_keys(secret).public == public
