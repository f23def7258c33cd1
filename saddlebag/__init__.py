"""Saddlebag: min-max games and variational inequalities, trained with compressed communication over gRPC.

`dir(saddlebag)` is the index of the product; `help` of each name says what it is for, with an example. The names load on first
use, so that `import saddlebag` costs nothing and imports neither torch nor grpc.

Example:
    >>> import saddlebag as sb
    >>> game = sb.make_problem("bilinear", n=10, workers=2)
    >>> run = sb.simulate(game, sb.make_method("ogda", game, step_size="auto"))
    >>> run.reason, run.merits["relative_error"] <= 1e-6
    ('merit', True)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from saddlebag.moved import watch as _watch_old_names
from saddlebag.version import __version__

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Constants
    from saddlebag.algorithms.check import check_method
    from saddlebag.algorithms.groupwise.algorithm import Groupwise
    from saddlebag.algorithms.groupwise.check import check_learner
    from saddlebag.algorithms.networks.game import ModuleGame
    from saddlebag.algorithms.problems.check import check_problem
    from saddlebag.algorithms.problems.data.rows import Dataset
    from saddlebag.algorithms.problems.fixed_point import FixedPoint
    from saddlebag.algorithms.problems.torch_game import TorchGame
    from saddlebag.algorithms.simulate import Record, Stop
    from saddlebag.client.ddp.hook import attach
    from saddlebag.client.groupwise.client import GroupwiseClient
    from saddlebag.client.groupwise.shards import ShardedClient
    from saddlebag.compression.check import check_compressor
    from saddlebag.errors import (
        ConfigError,
        DataError,
        LocalProtocolError,
        NotFiniteError,
        PeerLost,
        RemoteProtocolError,
        SaddlebagError,
        StateError,
    )
    from saddlebag.launch.api import (
        list_compressors,
        list_learners,
        list_methods,
        list_mixers,
        list_problems,
        make_compressor,
        make_learner,
        make_method,
        make_mixer,
        make_problem,
        simulate,
    )
    from saddlebag.launch.link.joining import join
    from saddlebag.launch.link.lightning import LightningLink
    from saddlebag.launch.link.trainer import LinkCallback
    from saddlebag.launch.results.outcome import Outcome

__all__ = [
    "ConfigError",
    "Constants",
    "DataError",
    "Dataset",
    "FixedPoint",
    "Groupwise",
    "GroupwiseClient",
    "LightningLink",
    "LinkCallback",
    "LocalProtocolError",
    "ModuleGame",
    "NotFiniteError",
    "Outcome",
    "PeerLost",
    "Record",
    "RemoteProtocolError",
    "SaddlebagError",
    "ShardedClient",
    "StateError",
    "Stop",
    "TorchGame",
    "__version__",
    "attach",
    "check_compressor",
    "check_learner",
    "check_method",
    "check_problem",
    "join",
    "list_compressors",
    "list_learners",
    "list_methods",
    "list_mixers",
    "list_problems",
    "make_compressor",
    "make_learner",
    "make_method",
    "make_mixer",
    "make_problem",
    "simulate",
]

_WHERE = {
    "Constants": "algorithms.base",
    "Dataset": "algorithms.problems.data.rows",
    "FixedPoint": "algorithms.problems.fixed_point",
    "Groupwise": "algorithms.groupwise",
    "GroupwiseClient": "client.groupwise",
    "LightningLink": "launch.link.lightning",
    "LinkCallback": "launch.link.trainer",
    "ModuleGame": "algorithms.networks.game",
    "Outcome": "launch.results.outcome",
    "Record": "algorithms.simulate",
    "ShardedClient": "client.groupwise",
    "Stop": "algorithms.simulate",
    "TorchGame": "algorithms.problems",
    "attach": "client.ddp",
    "check_compressor": "compression",
    "check_learner": "algorithms.groupwise",
    "check_method": "algorithms",
    "check_problem": "algorithms.problems",
    "join": "launch.link.joining",
}
"""Public name -> the module that has it; errors are in `errors`, makers, listers and `simulate` in `launch.api`."""

_watch_old_names()


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are listed by dir({__name__})")
    default = "launch.api" if name.islower() else "errors"
    return getattr(importlib.import_module(f"{__name__}.{_WHERE.get(name, default)}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
