"""Who signs: keys for a round are worth what vouches for whose they are, and a server that lies can hand out its own.

Every worker has a signing key (Ed25519) of its own, and knows the public keys of all; the server knows no more than these. A
member signs its two keys for each attempt at a round; the others check that before they share a secret with it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.reader import varint
from saddlebag.proto.secure.primitives import KEY_BYTES, public_of, signature, signature_fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SIGNED_BYTES", "Identity", "read_signers"]

_NUMBER_BYTES, _SIGNATURE_BYTES = 2, 64
SIGNED_BYTES = _NUMBER_BYTES + _SIGNATURE_BYTES
"""What a signature adds to a member's keys: whose it is, and itself."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """One worker's signing key, and the public keys of all workers of the run.

    Attributes:
        secret: 32 bytes.
        signers: public keys, 32 bytes each, all different.
        ranked: whether signer n is worker n; else any of them may be any member, each once.

    Raises:
        ConfigError: the secret's public key is not among the signers.

    Example:
        >>> from saddlebag.proto.secure.primitives import public_of
        >>> secrets = [bytes([n]) * 32 for n in range(3)]
        >>> one, other = (Identity(secrets[n], tuple(map(public_of, secrets))) for n in (0, 1))
        >>> other.require(b"round", {0: bytes(64) + one.signed(b"round", 0, bytes(64))})
    """

    secret: bytes = dataclasses.field(repr=False)
    signers: tuple[bytes, ...]
    ranked: bool = True

    def __post_init__(self) -> None:
        if public_of(self.secret) not in self.signers:
            raise ConfigError(
                f"the signing key's public key, {public_of(self.secret).hex()}, is not among the {len(self.signers)} signers"
            )

    def signed(self, context: bytes, rank: int, keys: bytes) -> bytes:
        """Which signer this is, and its signature of a member's keys in a round."""
        number = self.signers.index(public_of(self.secret))
        if self.ranked and number != rank:
            raise ConfigError(f"the signing key is that of worker {number}, and this is worker {rank}")
        return number.to_bytes(_NUMBER_BYTES, "little") + signature(self.secret, _text(context, rank, keys))

    def require(self, context: bytes, keys: Mapping[int, bytes]) -> None:
        """Check the keys of all members.

        Raises:
            RemoteProtocolError: somebody's are not signed by whom they should be, and whose.
        """
        met: dict[int, int] = {}
        for rank, row in keys.items():
            public, signed = row[: 2 * KEY_BYTES], row[2 * KEY_BYTES :]
            if len(signed) != SIGNED_BYTES:
                raise RemoteProtocolError(f"worker {rank}'s keys are not signed")
            number = int.from_bytes(signed[:_NUMBER_BYTES], "little")
            known = number < len(self.signers) and (number == rank or not self.ranked)
            if not known or not signature_fits(self.signers[number], signed[_NUMBER_BYTES:], _text(context, rank, public)):
                raise RemoteProtocolError(f"worker {rank}'s keys are not signed by the key that the run knows")
            if number in met:
                raise RemoteProtocolError(f"workers {met[number]} and {rank} have keys signed by one and the same signer")
            met[number] = rank


def _text(context: bytes, rank: int, keys: bytes) -> bytes:
    return b"saddlebag secure keys 2\n" + context + varint(rank) + keys


def read_signers(keys: Iterable[str]) -> tuple[bytes, ...]:
    """Public keys from their hexadecimal digits.

    Raises:
        ConfigError: one of them is none, or comes twice.
    """
    signers = []
    for key in keys:
        try:
            raw = bytes.fromhex(key)
        except (TypeError, ValueError):
            raw = b""
        if len(raw) != KEY_BYTES:
            raise ConfigError(f"a signer is a public key of 64 hexadecimal digits, as 'saddlebag signer' prints, got {key!r}")
        signers.append(raw)
    if len(set(signers)) != len(signers):
        raise ConfigError("signers must be different from each other: each worker has a key of its own")
    return tuple(signers)
