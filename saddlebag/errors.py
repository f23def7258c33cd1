"""The errors of Saddlebag: what went wrong, and whose fault it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "LocalProtocolError",
    "NotFiniteError",
    "PeerLost",
    "RemoteProtocolError",
    "SaddlebagError",
    "StateError",
    "check_choice",
]


class SaddlebagError(Exception):
    """Root of every error that Saddlebag raises on purpose."""


class ConfigError(SaddlebagError, ValueError):
    """A setting is wrong; the message names the field, the value and what is allowed."""


class DataError(SaddlebagError, ValueError):
    """A data file is missing or malformed; the message names the file, the line and the reason."""


class StateError(SaddlebagError):
    """A checkpoint is missing, damaged or belongs to another run."""


class NotFiniteError(SaddlebagError, ArithmeticError):
    """A vector holds NaN or an infinity, or overflows the type it travels in."""


class LocalProtocolError(SaddlebagError):
    """This side used the protocol wrongly: a bug here, not at the peer."""


class RemoteProtocolError(SaddlebagError):
    """A peer sent something the protocol forbids: drop the peer, not the server."""


class PeerLost(SaddlebagError):
    """A peer stayed silent for longer than its lease."""


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise `ConfigError` unless a setting's value, of whatever type, is one of those allowed."""
    known = tuple(allowed)
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
