"""What ends a worker's stream beside errors."""

from __future__ import annotations

__all__ = ["Leaving"]


class Leaving(Exception):
    """Raised by an operator that will say nothing more: its worker leaves the run to the others."""
