"""Saddlebag inside Flower: compression for any app, methods as strategies, a grid without Ray.

The only package that imports `flwr` (extra `saddlebag[flower]`, 1.30 or later).
"""

from saddlebag.flower.compressed import Compressed
from saddlebag.flower.grid import InProcessGrid
from saddlebag.flower.ledger import Ledger, serialised_bytes
from saddlebag.flower.method_app import add_method, method_app
from saddlebag.flower.method_strategy import MethodStrategy
from saddlebag.flower.mod import compression_mod

__all__ = [
    "Compressed",
    "InProcessGrid",
    "Ledger",
    "MethodStrategy",
    "add_method",
    "compression_mod",
    "method_app",
    "serialised_bytes",
]
