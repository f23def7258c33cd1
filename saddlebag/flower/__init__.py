"""Saddlebag inside Flower: compression for any app, methods as strategies, a grid without Ray.

The only package that imports `flwr` (extra `saddlebag[flower]`, 1.30 or later).
"""

from saddlebag.flower.compressed import Compressed
from saddlebag.flower.experts import SleepingExperts
from saddlebag.flower.grid import InProcessGrid
from saddlebag.flower.groupwise import GroupwiseFederation, add_groupwise
from saddlebag.flower.ledger import Ledger, serialised_bytes
from saddlebag.flower.method_app import add_method, method_app
from saddlebag.flower.method_strategy import MethodStrategy
from saddlebag.flower.mod import compression_mod
from saddlebag.flower.session import add_session, run_session

__all__ = [
    "Compressed",
    "GroupwiseFederation",
    "InProcessGrid",
    "Ledger",
    "MethodStrategy",
    "SleepingExperts",
    "add_groupwise",
    "add_method",
    "add_session",
    "compression_mod",
    "method_app",
    "run_session",
    "serialised_bytes",
]
