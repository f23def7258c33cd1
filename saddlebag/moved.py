"""Modules that have moved, under their old names for one release: importing one warns, and gives what is at the new place.

Files went into folders that show the architecture; a program that imports them from where they were goes on. Names without the
package's own in front.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOVED", "names_from", "names_left", "watch"]

_FOLDERS: dict[tuple[str, str], str] = {
    ("algorithms", "algorithms.agreed"): "auto_grid auto_step common_grid",
    ("algorithms", "algorithms.averages"): "contribution means robust stack",
    ("algorithms.groupwise", "algorithms.groupwise.distributed"): "aggregation block federation sharding",
    ("algorithms.groupwise", "algorithms.groupwise.learners"): "ftpl gradient linear newton objects ridge shortest_path",
    ("algorithms.groupwise", "algorithms.groupwise.mixers"): (
        "ada_normal_hedge adapt_ml_prod doubling mixing solo specialists"
    ),
    ("algorithms.groupwise", "algorithms.groupwise.kernels"): "compiled compiled_single",
    ("algorithms", "algorithms.methods"): (
        "compressed_extragradient diana_sgda extragradient extragradient_feedback forward_backward_forward full innovations "
        "ogda one_part qsgda sliding three_pillars vr_diana_sgda"
    ),
    ("algorithms", "algorithms.methods.local"): "local_sgda",
    ("algorithms", "algorithms.methods.masha"): "anchor masha1 masha2 optimistic_masha",
    ("algorithms.methods", "algorithms.methods.local"): "fed_gda_gt local_sgda prox_skip_vip",
    ("algorithms.methods", "algorithms.methods.masha"): "anchor masha1 masha2 optimistic_masha",
    ("algorithms", "algorithms.optimizers"): "compiled_adam power_sgd",
    ("algorithms", "algorithms.problems"): "division estimate",
    ("algorithms.networks", "algorithms.networks.images"): "digits digits_gan frechet gan vision",
    ("algorithms.networks", "algorithms.networks.texts"): "albert albert_mlm albert_sst2 embeddings text vocabulary",
    ("algorithms.problems", "algorithms.problems.data"): "groups rows shards",
    ("algorithms.problems", "algorithms.problems.games"): "affine bilinear finite_bilinear matrix_game quadratic",
    ("algorithms.problems", "algorithms.problems.robust"): (
        "bounds group_primal group_robust robust_least_squares robust_logistic robust_primal robust_rows worker_robust"
    ),
    ("compression", "compression.combinators"): "induced nested per_tensor scaled schedule",
    ("compression", "compression.compressors"): "device identity low_rank power_sgd",
    ("compression", "compression.compressors.quantisers"): (
        "blocks dithering grid half natural natural_dithering rounding sign ternary"
    ),
    ("compression", "compression.compressors.sparsifiers"): "bernoulli block_top_k perm_k rand_k threshold top_k",
    ("compression.compressors", "compression.compressors.quantisers"): (
        "blocks dithering grid half natural natural_dithering rounding sign ternary"
    ),
    ("compression.compressors", "compression.compressors.sparsifiers"): (
        "bernoulli block_top_k chunk_top_k greedy_blocks perm_k rand_k threshold top_k"
    ),
    ("flower", "flower.compression"): "ledger link mod packing references",
    ("flower", "flower.methods"): "session",
    ("flower", "flower.trials"): "credentials deployment grid",
    ("launch", "launch.advice"): "advise echo entropy examples listing measure tradeoff vectors",
    ("launch", "launch.commands"): "doctor",
    ("launch.commands", "launch.commands.fleet"): "collective host node nursery server token worker",
    ("launch.groupwise", "launch.groupwise.data"): "columns conjunctions encoding expressions rows stream synthetic",
    ("launch.groupwise", "launch.groupwise.reports"): "page plot report rivals",
    ("launch.groupwise", "launch.groupwise.tables"): "alarm_table calibration_table conjunction_table interval_table",
    ("launch.groupwise", "launch.pages"): "drawing",
    ("launch", "launch.data"): "arrow cache images readers sentences text",
    ("launch", "launch.drivers"): "place ranks talk",
    ("launch", "launch.recipe"): "plugins sections toml",
    ("launch", "launch.results"): "history outputs plot progress table tensorboard units",
    ("proto", "proto.coding"): "bits planes rice squeeze",
    ("server", "server.quorum"): "merging pool",
}
"""(old folder, new folder) -> the files that kept their names."""
_FILES: dict[str, tuple[str, ...]] = {
    "algorithms.problems.registry": ("algorithms.registry",),
    "launch.counted": ("launch.build",),
    "algorithms.compressed_optimizer": ("algorithms.optimizers.compressed",),
    "algorithms.optimizer_rules": ("algorithms.optimizers.rules",),
    "algorithms.replica_optimizer": ("algorithms.optimizers.replica",),
    "algorithms.update_rule": ("algorithms.optimizers.rule",),
    "client.ddp_exchange": ("client.ddp.exchange",),
    "compression.adaptive": ("compression.combinators.budget",),
    "compression.compose": (
        "compression.combinators.compose",
        "compression.base",
    ),
    "flower.compressed": ("flower.compression.strategy",),
    "flower.method_app": ("flower.methods.app",),
    "flower.method_link": ("flower.methods.link",),
    "flower.method_strategy": ("flower.methods.strategy",),
    "launch.commands.security": ("launch.commands.options",),
    "launch.compare_cell": ("launch.compare.cell",),
    "launch.compare_plot": ("launch.compare.plot",),
    "launch.compare_spec": ("launch.compare.spec",),
    "launch.compare_summary": ("launch.compare.summary",),
    "launch.compare_table": ("launch.compare.table",),
    "launch.fields": (
        "launch.recipe.fields",
        "parameters",
    ),
    "launch.inspect_compressor": ("launch.advice.inspection",),
    "launch.local": ("launch.drivers.supervisor",),
    "launch.modules": ("launch.results.shown",),
    "launch.pictures": ("launch.results.shown",),
    "launch.processes": (
        "launch.drivers.process",
        "launch.drivers.server",
        "launch.drivers.worker",
    ),
    "launch.remote": (
        "launch.commands.fleet.server",
        "launch.commands.fleet.worker",
    ),
    "launch.tabular": ("launch.data.tables",),
    "launch.texts": ("launch.results.shown",),
    "proto.flat_coding": ("proto.coding.flat",),
    "proto.index_coding": ("proto.coding.indices",),
    "proto.level_coding": ("proto.coding.levels",),
}
"""Old name -> where its names are now."""

MOVED: dict[str, tuple[str, ...]] = _FILES | {
    f"{old}.{name}": (f"{new}.{name}",) for (old, new), names in _FOLDERS.items() for name in names.split()
}
"""Every old name, and where to look."""


def _found(old: str, places: Sequence[str], name: str) -> Any:
    for place in places:
        module = importlib.import_module(f"saddlebag.{place}")
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module 'saddlebag.{old}' has no attribute {name!r}; it has moved to saddlebag.{places[0]}")


def _warn(old: str, places: Sequence[str]) -> None:
    new = " and ".join(f"saddlebag.{place}" for place in places)
    warnings.warn(
        f"saddlebag.{old} has moved to {new}; the old name goes with the next release", DeprecationWarning, stacklevel=3
    )


class _Old(types.ModuleType):
    """A module under its old name: each of its names is looked up where it is now."""

    def __getattr__(self, name: str) -> Any:
        old = self.__name__.partition(".")[2]
        return _found(old, MOVED[old], name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        del path, target
        top, _, old = fullname.partition(".")
        return importlib.machinery.ModuleSpec(fullname, self) if top == "saddlebag" and old in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        old = spec.name.partition(".")[2]
        _warn(old, MOVED[old])
        return _Old(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: names are looked up one by one."""


def watch() -> None:
    """Let old names be imported from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


_LEFT = {
    "algorithms.capabilities": {
        "algorithms.method_capabilities": (
            "BringsCompressors Clips Compresses Foresees HasProbability HasStepSize IsLate Narrow Reads Sends Sliceable "
            "TakesAnyMean TakesWeights"
        ),
    },
    "algorithms": {
        "algorithms.participation": "Arrears catch_up catch_up_sizes caught_up",
        "algorithms.simulate": "Wire",
        "algorithms.wrapped": "is_narrow sum_dtype",
    },
    "algorithms.groupwise": {
        "algorithms.groupwise.base": "copied",
        "algorithms.groupwise.coverage.calibration": "CalibrationState",
        "algorithms.groupwise.coverage.offered": "IntervalsState join_notes note_ends note_width",
        "algorithms.groupwise.coverage.scorer": "ScorerState",
        "algorithms.groupwise.coverage.scores": "Frame check_score recorded_frames",
        "algorithms.groupwise.coverage.thresholds": "ThresholdState",
        "algorithms.groupwise.learners.ridge": "replay_ridge",
        "algorithms.groupwise.mixers.mixing": "Distribution",
        "algorithms.groupwise.watch.watch": "WatchState",
    },
}
"""Package or file -> the file -> names of it that were shown there: inner ones of this project, or a file that was divided."""


def names_from(old: str, place: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that was a file: what it held is at `place` now.

    Example:
        >>> names_from("launch.recipe", "launch.recipe.recipe").__name__
        '__getattr__'
    """

    def __getattr__(name: str) -> Any:
        if name.startswith("__") or importlib.util.find_spec(f"saddlebag.{old}.{name}") is not None:  # a file of the package
            raise AttributeError(f"module 'saddlebag.{old}' has no attribute {name!r}")
        value = _found(old, (place,), name)
        _warn(old, (place,))
        return value

    return __getattr__


def names_left(package: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package that shows fewer names than it did: those gone warn, and are given.

    Example:
        >>> names_left("algorithms").__name__
        '__getattr__'
    """
    places = {name: place for place, names in _LEFT[package].items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module 'saddlebag.{package}' has no attribute {name!r}")
        value = _found(package, (places[name],), name)
        _warn(f"{package}.{name}", (f"{places[name]}.{name}",))
        return value

    return __getattr__
