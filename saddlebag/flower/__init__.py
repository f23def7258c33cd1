"""Saddlebag inside Flower: compression and secure sums for any app, methods as strategies, a grid without Ray.

The only package that imports `flwr` (extra `saddlebag[flower]`, 1.30 or later).
"""

from saddlebag.flower.compression.ledger import Ledger, serialised_bytes
from saddlebag.flower.compression.mod import compression_mod
from saddlebag.flower.compression.strategy import Compressed
from saddlebag.flower.experts import SleepingExperts
from saddlebag.flower.groupwise import GroupwiseFederation, add_groupwise
from saddlebag.flower.methods.app import add_method, method_app
from saddlebag.flower.methods.session import add_session, run_session
from saddlebag.flower.methods.strategy import MethodStrategy
from saddlebag.flower.progress import Progress, RecordLines
from saddlebag.flower.robust import Robust
from saddlebag.flower.secure.mod import SecureMod, secure_mod
from saddlebag.flower.secure.strategy import Secure
from saddlebag.flower.trials.grid import InProcessGrid

__all__ = [
    "Compressed",
    "GroupwiseFederation",
    "InProcessGrid",
    "Ledger",
    "MethodStrategy",
    "Progress",
    "RecordLines",
    "Robust",
    "Secure",
    "SecureMod",
    "SleepingExperts",
    "add_groupwise",
    "add_method",
    "add_session",
    "compression_mod",
    "method_app",
    "run_session",
    "secure_mod",
    "serialised_bytes",
]
