"""What secure aggregation takes from the package `cryptography`: X25519, HKDF, ChaCha20 and its authenticated form."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from saddlebag.errors import ConfigError, RemoteProtocolError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    _MISSING = ""
except ImportError as error:  # an extra
    _MISSING = str(error.name)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KEY_BYTES", "TAG_BYTES", "KeyPair", "committed", "opened", "require_cryptography", "sealed", "stream"]

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
                self._met[public] = self._key.exchange(X25519PublicKey.from_public_bytes(public))
            except ValueError as error:
                raise RemoteProtocolError("it is no public key of X25519") from error
        return bytes(HKDF(hashes.SHA256(), KEY_BYTES, None, purpose).derive(self._met[public]))


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


def stream(key: bytes, num_bytes: int) -> bytes:
    """So many bytes of ChaCha20, which nobody without the key can tell from random ones."""
    return bytes(Cipher(algorithms.ChaCha20(key, _COUNTER_AND_NONCE), None).encryptor().update(bytes(num_bytes)))


def committed(secret: bytes, context: bytes) -> bytes:
    """By which a secret is recognised later, and not found before."""
    return hashlib.sha256(b"saddlebag secure commitment 1\n" + context + secret).digest()
