"""Groupwise regret: online learners for each group, mixed by sleeping experts. Pure: numpy, float64."""

from typing import TYPE_CHECKING

from saddlebag.algorithms.groupwise.algorithm import Groupwise, GroupwiseState, Prediction
from saddlebag.algorithms.groupwise.base import (
    AnyLearner,
    AnyMixer,
    Learner,
    LearnerDefaults,
    Mixer,
    MixerDefaults,
    PredictsUnweighted,
    Sums,
    add_sums,
)
from saddlebag.algorithms.groupwise.bounds import FeatureBounds, service_bounds, table_bounds
from saddlebag.algorithms.groupwise.check import check_learner, states_equal
from saddlebag.algorithms.groupwise.coverage.calibration import (
    Calibration,
    calibrate_recorded,
    calibration_cells,
)
from saddlebag.algorithms.groupwise.coverage.intervals import Covered, cover_recorded
from saddlebag.algorithms.groupwise.coverage.offered import Intervals
from saddlebag.algorithms.groupwise.coverage.scorer import Scorer
from saddlebag.algorithms.groupwise.coverage.thresholds import Thresholds
from saddlebag.algorithms.groupwise.distributed.aggregation import ExpertAggregation, mean_of_models
from saddlebag.algorithms.groupwise.distributed.block import Block, predict_block
from saddlebag.algorithms.groupwise.distributed.federation import (
    BlockSums,
    add_blocks,
    block_length,
    block_sums,
    from_vector,
    merge_block,
    to_vector,
)
from saddlebag.algorithms.groupwise.distributed.sharding import PartialMix, join_mixes, partial_mix, shard_bound
from saddlebag.algorithms.groupwise.guard import Careful
from saddlebag.algorithms.groupwise.hindsight import best_linear_loss, best_linear_losses, best_logistic_losses, prefix_losses
from saddlebag.algorithms.groupwise.labels import check_labels, wrong_label
from saddlebag.algorithms.groupwise.learners.aioli import Aioli, logistic
from saddlebag.algorithms.groupwise.learners.ftpl import Oracle, PerturbedLeader
from saddlebag.algorithms.groupwise.learners.gradient import Gradient
from saddlebag.algorithms.groupwise.learners.newton import Newton
from saddlebag.algorithms.groupwise.learners.objects import ObjectLearner, estimator_learner, one_by_one_learner
from saddlebag.algorithms.groupwise.learners.ridge import Ridge, vovk_azoury_warmuth
from saddlebag.algorithms.groupwise.learners.shortest_path import ShortestPath, grid_graph
from saddlebag.algorithms.groupwise.ledger import Alarm, Ledger, Outcome
from saddlebag.algorithms.groupwise.losses import LOSSES, AbsoluteLoss, LinearLoss, LogLoss, Loss, SquaredLoss
from saddlebag.algorithms.groupwise.members import Members
from saddlebag.algorithms.groupwise.mixers.ada_normal_hedge import AdaNormalHedge
from saddlebag.algorithms.groupwise.mixers.adapt_ml_prod import AdaptMlProd
from saddlebag.algorithms.groupwise.mixers.doubling import Doubling
from saddlebag.algorithms.groupwise.mixers.mixing import distribution
from saddlebag.algorithms.groupwise.mixers.solo import Solo
from saddlebag.algorithms.groupwise.mixers.specialists import Specialists
from saddlebag.algorithms.groupwise.packing import pack_state, unpack_state
from saddlebag.algorithms.groupwise.recorded import Mixed, mix_members, mix_recorded, replay_groups, replay_members
from saddlebag.algorithms.groupwise.registry import LEARNERS, MIXERS
from saddlebag.algorithms.groupwise.rounds import is_fast, run_rounds
from saddlebag.algorithms.groupwise.watch.watch import Seen, Watch, cell_edges
from saddlebag.algorithms.groupwise.weights import WeightedLearner
from saddlebag.moved import names_left

__all__ = [
    "LEARNERS",
    "LOSSES",
    "MIXERS",
    "AbsoluteLoss",
    "AdaNormalHedge",
    "AdaptMlProd",
    "Aioli",
    "Alarm",
    "AnyLearner",
    "AnyMixer",
    "Block",
    "BlockSums",
    "Calibration",
    "Careful",
    "Covered",
    "Doubling",
    "ExpertAggregation",
    "FeatureBounds",
    "Gradient",
    "Groupwise",
    "GroupwiseState",
    "Intervals",
    "Learner",
    "LearnerDefaults",
    "Ledger",
    "LinearLoss",
    "LogLoss",
    "Loss",
    "Members",
    "Mixed",
    "Mixer",
    "MixerDefaults",
    "Newton",
    "ObjectLearner",
    "Oracle",
    "Outcome",
    "PartialMix",
    "PerturbedLeader",
    "Prediction",
    "PredictsUnweighted",
    "Ridge",
    "Scorer",
    "Seen",
    "ShortestPath",
    "Solo",
    "Specialists",
    "SquaredLoss",
    "Sums",
    "Thresholds",
    "Watch",
    "WeightedLearner",
    "add_blocks",
    "add_sums",
    "best_linear_loss",
    "best_linear_losses",
    "best_logistic_losses",
    "block_length",
    "block_sums",
    "calibrate_recorded",
    "calibration_cells",
    "cell_edges",
    "check_labels",
    "check_learner",
    "cover_recorded",
    "distribution",
    "estimator_learner",
    "from_vector",
    "grid_graph",
    "is_fast",
    "join_mixes",
    "logistic",
    "mean_of_models",
    "merge_block",
    "mix_members",
    "mix_recorded",
    "one_by_one_learner",
    "pack_state",
    "partial_mix",
    "predict_block",
    "prefix_losses",
    "replay_groups",
    "replay_members",
    "run_rounds",
    "service_bounds",
    "shard_bound",
    "states_equal",
    "table_bounds",
    "to_vector",
    "unpack_state",
    "vovk_azoury_warmuth",
    "wrong_label",
]

if not TYPE_CHECKING:  # or every misspelt name would pass for one of these
    __getattr__ = names_left("algorithms.groupwise")
