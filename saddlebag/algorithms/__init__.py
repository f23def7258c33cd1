"""Algorithms: methods for variational inequalities, problems, and the in-process driver. Pure: numpy only."""

from typing import TYPE_CHECKING

from saddlebag.algorithms.agreed.common_part import CommonPart, PartlyKnown
from saddlebag.algorithms.base import (
    AnyMethod,
    Constants,
    Message,
    Method,
    Operator,
    Problem,
    Prox,
    ReplicaState,
    identity_prox,
    known_constants,
    restarted,
)
from saddlebag.algorithms.catalogue import CATALOGUE
from saddlebag.algorithms.check import check_method
from saddlebag.algorithms.finite_sum import FiniteSum
from saddlebag.algorithms.methods.compressed_extragradient import CompressedExtragradient, compressed_extragradient
from saddlebag.algorithms.methods.diana_sgda import DianaSgda, diana_sgda
from saddlebag.algorithms.methods.extragradient import Extragradient, extragradient
from saddlebag.algorithms.methods.extragradient_feedback import ExtragradientFeedback, extragradient_feedback
from saddlebag.algorithms.methods.forward_backward_forward import ForwardBackwardForward, forward_backward_forward
from saddlebag.algorithms.methods.innovations import Innovations, innovations
from saddlebag.algorithms.methods.local.local_sgda import LocalSgda, local_sgda
from saddlebag.algorithms.methods.masha.masha1 import Masha1, masha1
from saddlebag.algorithms.methods.masha.masha2 import Masha2, masha2
from saddlebag.algorithms.methods.masha.optimistic_masha import OptimisticMasha, optimistic_masha
from saddlebag.algorithms.methods.ogda import Ogda, ogda
from saddlebag.algorithms.methods.qsgda import Qsgda, qsgda
from saddlebag.algorithms.methods.three_pillars import ThreePillars, three_pillars
from saddlebag.algorithms.methods.vr_diana_sgda import VrDianaSgda, vr_diana_sgda
from saddlebag.algorithms.optimizers.compressed import CompressedOptimizer
from saddlebag.algorithms.optimizers.compressed_rules import (
    compressed_adamw,
    compressed_extra_adam,
    compressed_lamb,
    compressed_optimistic_adam,
    compressed_sgd,
)
from saddlebag.algorithms.optimizers.diloco import diloco
from saddlebag.algorithms.optimizers.local_average import local_average
from saddlebag.algorithms.optimizers.local_rounds import LocalRounds
from saddlebag.algorithms.optimizers.muloco import muloco
from saddlebag.algorithms.optimizers.power_sgd import PowerSgd, power_sgd
from saddlebag.algorithms.optimizers.sparse_loco import sparse_loco
from saddlebag.algorithms.participation import Selective, participants
from saddlebag.algorithms.registry import METHODS, make_method, takes_compressors
from saddlebag.algorithms.simulate import DIVERGED, Judge, Outcome, Record, Spent, Stop, Verdict, form_means, simulate
from saddlebag.algorithms.state import digest, pack, unpack
from saddlebag.moved import names_left

__all__ = [
    "DIVERGED",
    "METHODS",
    "AnyMethod",
    "CommonPart",
    "CompressedExtragradient",
    "CompressedOptimizer",
    "Constants",
    "DianaSgda",
    "Extragradient",
    "ExtragradientFeedback",
    "FiniteSum",
    "ForwardBackwardForward",
    "Innovations",
    "Judge",
    "LocalRounds",
    "LocalSgda",
    "Masha1",
    "Masha2",
    "Message",
    "Method",
    "Ogda",
    "Operator",
    "OptimisticMasha",
    "Outcome",
    "PartlyKnown",
    "PowerSgd",
    "Problem",
    "Prox",
    "Qsgda",
    "Record",
    "ReplicaState",
    "Selective",
    "Spent",
    "Stop",
    "ThreePillars",
    "Verdict",
    "VrDianaSgda",
    "check_method",
    "compressed_adamw",
    "compressed_extra_adam",
    "compressed_extragradient",
    "compressed_lamb",
    "compressed_optimistic_adam",
    "compressed_sgd",
    "diana_sgda",
    "digest",
    "diloco",
    "extragradient",
    "extragradient_feedback",
    "form_means",
    "forward_backward_forward",
    "identity_prox",
    "innovations",
    "known_constants",
    "local_average",
    "local_sgda",
    "make_method",
    "masha1",
    "masha2",
    "muloco",
    "ogda",
    "optimistic_masha",
    "pack",
    "participants",
    "power_sgd",
    "qsgda",
    "restarted",
    "simulate",
    "sparse_loco",
    "takes_compressors",
    "three_pillars",
    "unpack",
    "vr_diana_sgda",
]

METHODS.update(CATALOGUE)

if not TYPE_CHECKING:  # or every misspelt name would pass for one of these
    __getattr__ = names_left("algorithms")
