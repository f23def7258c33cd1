"""The errors of Saddlebag: what went wrong, and whose fault it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BrokenStream",
    "ConfigError",
    "DataError",
    "LocalProtocolError",
    "NotFiniteError",
    "PeerLost",
    "RemoteProtocolError",
    "SaddlebagError",
    "StateError",
    "check_choice",
    "explained",
    "reason_of",
]


class SaddlebagError(Exception):
    """Root of every error that Saddlebag raises on purpose."""


class ConfigError(SaddlebagError, ValueError):
    """A setting is wrong; the message names the field, the value and what is allowed."""


class DataError(SaddlebagError, ValueError):
    """A data file is missing or malformed; the message names the file, the line and the reason."""


class StateError(SaddlebagError):
    """A checkpoint is missing, damaged or belongs to another run, or a file of a run cannot be read or written."""


class NotFiniteError(SaddlebagError, ArithmeticError):
    """A vector holds NaN or an infinity, or overflows the type it travels in."""


class LocalProtocolError(SaddlebagError):
    """This side used the protocol wrongly: a bug here, not at the peer."""


class RemoteProtocolError(SaddlebagError):
    """A peer sent something the protocol forbids: drop the peer, not the server."""


class BrokenStream(RemoteProtocolError):
    """What came is not what was sent: bits were flipped on the way, or a message was lost. Both ends begin another stream."""


class PeerLost(SaddlebagError):
    """A peer stayed silent for longer than its lease."""


_TOO_LARGE = ("Maximum allowed dimension exceeded", "array is too big", "Maximum allowed size exceeded")
"""What numpy says of arrays that no memory could hold, as a ValueError."""
_LONGEST_DEFECT = 1000  # characters of a foreign message that are passed on; a gRPC status has room for 8 KiB


def explained(error: Exception) -> SaddlebagError:
    """Any error as one that a person is told in a line: itself, what the system refused, or a defect.

    >>> str(explained(PermissionError(13, "Permission denied", "runs/metrics.jsonl")))
    'runs/metrics.jsonl: Permission denied'
    >>> str(explained(KeyError("rows")))
    "unexpected KeyError: 'rows' (a defect; SADDLEBAG_TRACEBACK=1 shows where, please report it)"
    """
    if isinstance(error, SaddlebagError):
        return error
    told: SaddlebagError
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        told = StateError(f"{where}{error.strerror or str(error) or type(error).__name__}")
    elif isinstance(error, MemoryError) or str(error).startswith(_TOO_LARGE):
        told = SaddlebagError(
            f"there is not enough memory; take fewer workers or a smaller problem ({error or 'no more is known'})"
        )
    else:
        text = f"unexpected {type(error).__name__}: {str(error)[:_LONGEST_DEFECT]}"
        told = SaddlebagError(f"{text} (a defect; SADDLEBAG_TRACEBACK=1 shows where, please report it)")
    told.__cause__ = error
    return told


def reason_of(error: BaseException) -> str:
    """What an error says: the system's words without number and path, or its own.

    >>> reason_of(PermissionError(13, "Permission denied", "runs/metrics.jsonl")), reason_of(ValueError("no such format"))
    ('Permission denied', 'no such format')
    """
    return (isinstance(error, OSError) and error.strerror) or str(error)


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise `ConfigError` unless a setting's value, of whatever type, is one of those allowed."""
    known = tuple(allowed)
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
