"""What secure aggregation takes from the package `cryptography`: X25519, Ed25519, ChaCha20 with its authenticated form."""

from __future__ import annotations

import functools
import hashlib
import hmac
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, RemoteProtocolError

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    _MISSING = ""
except ImportError as error:  # an extra
    _MISSING = str(error.name)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "KEY_BYTES",
    "TAG_BYTES",
    "KeyPair",
    "committed",
    "hkdf",
    "masking_keys",
    "opened",
    "own_mask",
    "public_of",
    "require_cryptography",
    "sealed",
    "signature",
    "signature_fits",
    "stream_into",
]

KEY_BYTES = 32
"""Of every key, public or secret."""
TAG_BYTES = 16
"""That sealing adds to a message."""

_COUNTER_AND_NONCE = bytes(16)  # every key makes one stream only
_MOST_MET = 4096  # public keys whose exchange is kept: those of a run, and no more whatever a peer sends
_NONCE = bytes(12)  # every key seals one message only


def require_cryptography() -> None:
    """Raise `ConfigError` where the extra is not installed."""
    if _MISSING:
        raise ConfigError(f"secure aggregation needs the package {_MISSING}; pip install 'saddlebag[secure]'")


class KeyPair:
    """A secret key of X25519 and its public one.

    Example:
        >>> import os
        >>> one, other = KeyPair(os.urandom(32)), KeyPair(os.urandom(32))
        >>> one.shared(other.public, b"what for") == other.shared(one.public, b"what for")
        True
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public: bytes = self._key.public_key().public_bytes_raw()
        self._met: dict[bytes, bytes] = {}  # an exchange costs more than all else of a purpose, and two members have several

    @classmethod
    def new(cls, entropy: Callable[[int], bytes]) -> KeyPair:
        """One that nobody else has, where `entropy` gives bytes that nobody else can know."""
        return cls(entropy(KEY_BYTES))

    def shared(self, public: bytes, purpose: bytes) -> bytes:
        """The key that the holders of both secrets can compute, for one purpose.

        Raises:
            RemoteProtocolError: the public key is none, or one that leads everybody to the same secret.
        """
        if public not in self._met:
            if len(self._met) == _MOST_MET:
                self._met.clear()
            try:
                self._met[public] = _extracted(self._key.exchange(X25519PublicKey.from_public_bytes(public)))
            except ValueError as error:
                raise RemoteProtocolError("it is no public key of X25519") from error
        return _expanded(self._met[public], purpose)


def hkdf(secret: bytes, purpose: bytes) -> bytes:
    """32 bytes of HKDF with SHA-256 and no salt (RFC 5869): one block, two calls of HMAC."""
    return _expanded(_extracted(secret), purpose)


def _extracted(secret: bytes) -> bytes:
    return hmac.digest(bytes(32), secret, "sha256")


def _expanded(extracted: bytes, purpose: bytes) -> bytes:
    return hmac.digest(extracted, purpose + b"\x01", "sha256")


def sealed(key: bytes, text: bytes, about: bytes) -> bytes:
    """The text, readable and changeable only for those who have the key, which seals nothing else; bound to `about`."""
    return bytes(ChaCha20Poly1305(key).encrypt(_NONCE, text, about))


def opened(key: bytes, data: bytes, about: bytes) -> bytes:
    """What was sealed.

    Raises:
        RemoteProtocolError: it was sealed with another key or for another purpose, or was changed.
    """
    try:
        return bytes(ChaCha20Poly1305(key).decrypt(_NONCE, data, about))
    except InvalidTag as error:
        raise RemoteProtocolError("it was not sealed with this round's key") from error


def stream_into(key: bytes, out: bytearray) -> None:
    """Fill with ChaCha20, which nobody without the key can tell from random bytes."""
    Cipher(algorithms.ChaCha20(key, _COUNTER_AND_NONCE), None).encryptor().update_into(_zeros(len(out)), out)


@functools.lru_cache(maxsize=2)
def _zeros(num_bytes: int) -> bytes:
    return bytes(num_bytes)


def masking_keys(seed: bytes) -> KeyPair:
    """The keys for masks of a member: they follow from a secret of 16 bytes, of which shares are short."""
    return KeyPair(hkdf(seed, b"saddlebag secure key 2\n"))


def own_mask(secret: bytes, context: bytes) -> bytes:
    """The key of the mask of a member's own in a round."""
    return hkdf(secret, b"saddlebag secure own 2\n" + context)


def public_of(secret: bytes) -> bytes:
    """The public key of a signing key of Ed25519."""
    return Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def signature(secret: bytes, text: bytes) -> bytes:
    """Of a text, by a signing key."""
    return Ed25519PrivateKey.from_private_bytes(secret).sign(text)


def signature_fits(public: bytes, signed: bytes, text: bytes) -> bool:
    """Whether the holder of this public key's secret has signed this text."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def committed(secret: bytes, context: bytes) -> bytes:
    """By which a secret is recognised later, and not found before."""
    return hashlib.sha256(b"saddlebag secure commitment 2\n" + context + secret).digest()
