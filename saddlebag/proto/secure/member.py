"""A member's half of a round of secure aggregation: four steps in order, each of them once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.reader import Reader, varint
from saddlebag.proto.secure.messages import (
    KEYS_BYTES,
    SEALED_BYTES,
    Step,
    encode_rows,
    encode_table,
    read_ranks,
    read_rows,
    read_table,
    seals,
)
from saddlebag.proto.secure.primitives import (
    KEY_BYTES,
    KeyPair,
    committed,
    masking_keys,
    opened,
    own_mask,
    require_cryptography,
    sealed,
)
from saddlebag.proto.secure.sharing import SECRET_BYTES, SHARE_BYTES, split

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from saddlebag.proto.reader import Buffer
    from saddlebag.proto.secure.identity import Identity
    from saddlebag.proto.secure.ring import Ring

__all__ = ["Member", "pair_purpose"]


def pair_purpose(context: bytes, one: int, other: int) -> bytes:
    """What the common secret of two members is for: the mask between them in this round."""
    return b"saddlebag secure mask 2\n" + context + varint(min(one, other)) + varint(max(one, other))


class Member:
    """One worker in one attempt at a round, with a new key for masks and a new secret, which serve this attempt only.

    Args:
        worker: rank.
        threshold: t, how many members' shares give a secret away; fewer than t others who tell each other all learn nothing.
        ring: of the round.
        identity: by which the members of a run know each other's keys; None where they take them as the server tells them.
        sealing: keys for sealing, which may be those of the worker's earlier rounds; None for new ones.
        entropy: so many bytes that nobody else can know: those of the operating system.

    Raises:
        ConfigError: the package `cryptography` is missing.
    """

    def __init__(
        self,
        worker: int,
        *,
        threshold: int,
        ring: Ring,
        identity: Identity | None = None,
        sealing: KeyPair | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        require_cryptography()
        self.worker, self._threshold, self._ring, self._entropy = worker, threshold, ring, entropy
        self._sealing, self._seed = sealing or KeyPair.new(entropy), entropy(SECRET_BYTES)
        self._masking = masking_keys(self._seed)
        self._own = entropy(SECRET_BYTES)  # b, the secret of the mask of its own
        self._identity, self._next = identity, Step.KEYS
        self._keys: dict[int, bytes] = {}  # of all members
        self._shares: dict[int, bytes] = {}  # both secrets' shares that are for this member, by whose they are

    def capture(self) -> bytes:
        """All that it knows, secrets among it: for whoever lets a process end between two steps. `restored` takes it."""
        secrets = self._sealing.secret + self._seed + self._own
        keys, shares = encode_rows(self._keys), encode_table(self._shares)
        return bytes((self._next,)) + secrets + varint(len(keys)) + keys + shares

    @classmethod
    def restored(cls, data: Buffer, worker: int, *, threshold: int, ring: Ring, identity: Identity | None = None) -> Member:
        """The member that was captured, in the same attempt at the same round.

        Raises:
            RemoteProtocolError: it is nothing that `capture` gave.
        """
        reader = Reader(data)
        step = reader.take(1)[0]
        sealing = KeyPair(bytes(reader.take(KEY_BYTES)))
        secrets = iter([bytes(reader.take(SECRET_BYTES)) for _ in range(2)])
        ways: dict[str, Any] = {"threshold": threshold, "ring": ring, "identity": identity}
        member = cls(worker, **ways, sealing=sealing, entropy=lambda count: next(secrets))
        member._entropy, member._next = os.urandom, Step(min(step, Step.UNMASK))
        member._keys = read_rows(reader.take(reader.size(0, len(data), "the keys' length")))
        member._shares = read_table(reader.take(reader.left), 2 * SHARE_BYTES)
        return member

    def _at(self, step: Step) -> None:
        if self._next is not step:
            raise LocalProtocolError(f"step {step.name.lower()} of member {self.worker} where {self._next.name.lower()} is due")
        self._next = Step(min(step + 1, Step.UNMASK))

    def keys(self) -> bytes:
        """Two public keys: for sealing, for masks; and a signature of them, where there is an identity."""
        self._at(Step.KEYS)
        keys = self._sealing.public + self._masking.public
        return keys if self._identity is None else keys + self._identity.signed(self._ring.context, self.worker, keys)

    def shares(self, roster: Buffer) -> bytes:
        """Given everybody's keys: a commitment to the own secret, and for each other member its shares, sealed.

        Raises:
            RemoteProtocolError: the keys are none, or not signed as they should be; this member's are not among them, or there
                are fewer than t.
        """
        self._at(Step.SHARES)
        rows = read_rows(roster)
        if self._identity is not None:
            self._identity.require(self._ring.context, rows)
        self._keys = {rank: row[:KEYS_BYTES] for rank, row in rows.items()}
        if self._keys.get(self.worker) != self._sealing.public + self._masking.public:
            raise RemoteProtocolError(f"the server tells other keys of worker {self.worker} than it has sent")
        self._require_enough(len(self._keys), "keys")
        halves = [split(secret, list(self._keys), self._threshold, self._entropy) for secret in (self._own, self._seed)]
        out = [committed(self._own, self._ring.context)]
        for rank in sorted(self._keys):
            both = halves[0][rank] + halves[1][rank]
            if rank == self.worker:
                self._shares[rank] = both
            else:
                about = self._about(self.worker, rank)
                out.append(sealed(self._shared(self._sealing, rank, 0, about), both, about))
        return b"".join(out)

    def masked(self, inbox: Buffer, level_D: npt.NDArray[Any]) -> bytes:
        """Given the sealed shares of those who take part: the levels, masked.

        Raises:
            RemoteProtocolError: a share is not of this round, or there are fewer than t.
            ConfigError: the levels do not fit the ring.
        """
        vector = self._ring.member(level_D)
        self._at(Step.MASKED)
        for rank, data in read_table(inbox, SEALED_BYTES).items():
            if rank == self.worker or rank not in self._keys:
                raise RemoteProtocolError(f"the server sends shares of worker {rank}, who has sent no keys")
            about = self._about(rank, self.worker)
            try:
                self._shares[rank] = opened(self._shared(self._sealing, rank, 0, about), data, about)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(f"worker {rank}'s shares for worker {self.worker}: {error}") from error
        self._require_enough(len(self._shares), "shares")
        vector = self._ring.with_mask(vector, own_mask(self._own, self._ring.context))
        for rank in sorted(self._shares):
            if rank != self.worker:
                key = self._shared(self._masking, rank, KEY_BYTES, pair_purpose(self._ring.context, self.worker, rank))
                vector = self._ring.with_mask(vector, key, 1 if self.worker < rank else -1)
        return self._ring.encode(vector)

    def unmask(self, arrived: Buffer) -> bytes:
        """Given whose vectors have arrived: of each who took part one share, of its own mask or of its key, never of both.

        Raises:
            RemoteProtocolError: fewer than t have arrived, or somebody who took no part.
            LocalProtocolError: it has been asked before.
        """
        if not self._shares or self._next is not Step.UNMASK:
            raise LocalProtocolError(
                f"member {self.worker} has nothing to unmask: it has sent no vector, or has been asked before"
            )
        ranks = read_ranks(arrived)
        if strangers := sorted({*ranks} - {*self._shares}):
            raise RemoteProtocolError(f"the server says that worker {strangers[0]} has arrived, who took no part")
        self._require_enough(len(ranks), "vectors")
        shares, self._shares = self._shares, {}
        there = set(ranks)
        return b"".join(shares[rank][:SHARE_BYTES] if rank in there else shares[rank][SHARE_BYTES:] for rank in sorted(shares))

    def _about(self, sender: int, receiver: int) -> bytes:
        """What a sealed message is for, and its key: both ends' keys for masks are in it, so each attempt has its own."""
        return seals(self._ring.context, sender, receiver, *(self._keys[rank][KEY_BYTES:] for rank in (sender, receiver)))

    def _shared(self, mine: KeyPair, rank: int, at: int, purpose: bytes) -> bytes:
        try:
            return mine.shared(self._keys[rank][at : at + KEY_BYTES], purpose)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"worker {rank}'s key: {error}") from error

    def _require_enough(self, count: int, what: str) -> None:
        if count < self._threshold:
            raise RemoteProtocolError(
                f"the server has {what} of {count} workers; worker {self.worker} goes on from {self._threshold}"
            )
