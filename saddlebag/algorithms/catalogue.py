"""The methods of this package under their names: a new one is its file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saddlebag.algorithms.methods.anchored_extragradient import anchored_extragradient
from saddlebag.algorithms.methods.bandit import bandit
from saddlebag.algorithms.methods.compressed_extragradient import compressed_extragradient
from saddlebag.algorithms.methods.diana_sgda import diana_sgda
from saddlebag.algorithms.methods.extragradient import extragradient
from saddlebag.algorithms.methods.extragradient_feedback import extragradient_feedback
from saddlebag.algorithms.methods.forward_backward_forward import forward_backward_forward
from saddlebag.algorithms.methods.golden_ratio import golden_ratio
from saddlebag.algorithms.methods.innovations import innovations
from saddlebag.algorithms.methods.local.compressed_fed_gda_gt import compressed_fed_gda_gt
from saddlebag.algorithms.methods.local.fed_gda_gt import fed_gda_gt
from saddlebag.algorithms.methods.local.local_sgda import local_sgda
from saddlebag.algorithms.methods.local.prox_skip_vip import prox_skip_vip
from saddlebag.algorithms.methods.masha.masha1 import masha1
from saddlebag.algorithms.methods.masha.masha2 import masha2
from saddlebag.algorithms.methods.masha.optimistic_masha import optimistic_masha
from saddlebag.algorithms.methods.ogda import ogda
from saddlebag.algorithms.methods.qoda import qoda
from saddlebag.algorithms.methods.qsgda import qsgda
from saddlebag.algorithms.methods.three_pillars import three_pillars
from saddlebag.algorithms.methods.vr_diana_sgda import vr_diana_sgda
from saddlebag.algorithms.optimizers.compressed_rules import (
    compressed_adamw,
    compressed_extra_adam,
    compressed_lamb,
    compressed_optimistic_adam,
    compressed_sgd,
)
from saddlebag.algorithms.optimizers.diloco import diloco
from saddlebag.algorithms.optimizers.local_average import local_average
from saddlebag.algorithms.optimizers.muloco import muloco
from saddlebag.algorithms.optimizers.power_sgd import power_sgd
from saddlebag.algorithms.optimizers.sparse_loco import sparse_loco
from saddlebag.algorithms.supports.active_set import active_set
from saddlebag.algorithms.supports.bilevel_pruning import bilevel_pruning
from saddlebag.algorithms.supports.block_descent import block_descent
from saddlebag.algorithms.supports.mask_average import mask_average

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.base import AnyMethod

__all__ = ["CATALOGUE"]

CATALOGUE: dict[str, Callable[..., AnyMethod]] = {
    "active_set": active_set,
    "anchored_extragradient": anchored_extragradient,
    "bandit": bandit,
    "bilevel_pruning": bilevel_pruning,
    "block_descent": block_descent,
    "compressed_adamw": compressed_adamw,
    "compressed_extra_adam": compressed_extra_adam,
    "compressed_extragradient": compressed_extragradient,
    "compressed_fed_gda_gt": compressed_fed_gda_gt,
    "compressed_lamb": compressed_lamb,
    "compressed_optimistic_adam": compressed_optimistic_adam,
    "compressed_sgd": compressed_sgd,
    "diana_sgda": diana_sgda,
    "diloco": diloco,
    "extragradient": extragradient,
    "extragradient_feedback": extragradient_feedback,
    "fed_gda_gt": fed_gda_gt,
    "forward_backward_forward": forward_backward_forward,
    "golden_ratio": golden_ratio,
    "innovations": innovations,
    "local_average": local_average,
    "local_sgda": local_sgda,
    "masha1": masha1,
    "masha2": masha2,
    "mask_average": mask_average,
    "muloco": muloco,
    "ogda": ogda,
    "optimistic_masha": optimistic_masha,
    "power_sgd": power_sgd,
    "prox_skip_vip": prox_skip_vip,
    "qoda": qoda,
    "qsgda": qsgda,
    "sparse_loco": sparse_loco,
    "three_pillars": three_pillars,
    "vr_diana_sgda": vr_diana_sgda,
}
