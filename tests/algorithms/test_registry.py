"""The methods by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    METHODS,
    CompressedExtragradient,
    CompressedOptimizer,
    DianaSgda,
    Extragradient,
    ExtragradientFeedback,
    ForwardBackwardForward,
    Innovations,
    LocalRounds,
    LocalSgda,
    Masha1,
    Masha2,
    Ogda,
    OptimisticMasha,
    PowerSgd,
    Qsgda,
    ThreePillars,
    VrDianaSgda,
    takes_compressors,
)
from saddlebag.algorithms import (
    make_method as typed_make_method,
)
from saddlebag.algorithms.methods.anchored_extragradient import AnchoredExtragradient
from saddlebag.algorithms.methods.bandit import Bandit
from saddlebag.algorithms.methods.golden_ratio import GoldenRatio
from saddlebag.algorithms.methods.local.compressed_fed_gda_gt import CompressedFedGdaGt
from saddlebag.algorithms.methods.local.fed_gda_gt import FedGdaGt
from saddlebag.algorithms.methods.local.prox_skip_vip import ProxSkipVip
from saddlebag.algorithms.methods.qoda import Qoda
from saddlebag.algorithms.optimizers.rules import RULES
from saddlebag.algorithms.problems import FiniteBilinearGame
from saddlebag.algorithms.supports.active_set import ActiveSet
from saddlebag.algorithms.supports.bilevel_pruning import BilevelPruning
from saddlebag.algorithms.supports.block_descent import BlockDescent
from saddlebag.algorithms.supports.mask_average import MaskAverage
from saddlebag.compression import Identity, RandK, TopK
from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import BilinearGame

make_method: Any = typed_make_method  # what comes out has more attributes than every method has
FULL, RAND, TOP = Identity(), RandK(k=2), TopK(k=2)
NAMES = [f"compressed_{rule}" for rule in RULES]
KINDS = {
    "active_set": ActiveSet,
    "anchored_extragradient": AnchoredExtragradient,
    "bandit": Bandit,
    "bilevel_pruning": BilevelPruning,
    "block_descent": BlockDescent,
    "compressed_extragradient": CompressedExtragradient,
    **dict.fromkeys(NAMES, CompressedOptimizer),
    "compressed_fed_gda_gt": CompressedFedGdaGt,
    "diana_sgda": DianaSgda,
    "diloco": LocalRounds,
    "extragradient": Extragradient,
    "extragradient_feedback": ExtragradientFeedback,
    "fed_gda_gt": FedGdaGt,
    "forward_backward_forward": ForwardBackwardForward,
    "golden_ratio": GoldenRatio,
    "innovations": Innovations,
    "local_average": LocalRounds,
    "local_sgda": LocalSgda,
    "mask_average": MaskAverage,
    "masha1": Masha1,
    "masha2": Masha2,
    "muloco": LocalRounds,
    "ogda": Ogda,
    "optimistic_masha": OptimisticMasha,
    "power_sgd": PowerSgd,
    "prox_skip_vip": ProxSkipVip,
    "qoda": Qoda,
    "qsgda": Qsgda,
    "sparse_loco": LocalRounds,
    "three_pillars": ThreePillars,
    "vr_diana_sgda": VrDianaSgda,
}


class TensorGame(FiniteBilinearGame):
    """A game whose players are the rows of a matrix, and of whose coordinates the first two move, or which are log-odds."""

    def active(self, z_D: np.ndarray) -> np.ndarray:
        return np.arange(len(z_D))[:2]

    def mask(self, z_D: np.ndarray) -> np.ndarray:
        return np.asarray(z_D > 0.0)

    @property
    def tensors(self) -> list[Tensor]:
        return [Tensor("players", (2, self.dimension // 2))]


def test_every_name_makes_its_kind() -> None:
    game = TensorGame(n=4, num_workers=2)
    assert sorted(METHODS) == sorted(KINDS)
    kind: type[Any]
    for name, kind in KINDS.items():
        compressors: dict[str, Any] = {"up": FULL, "down": FULL} if takes_compressors(name) else {}
        compressors |= {"rank": 1, "worth": 0.9} if name == "power_sgd" else {}
        compressors |= {"probability": 0.2} if name == "prox_skip_vip" else {}
        method = make_method(name, game, step_size=0.1, **compressors)
        assert isinstance(method, kind)
        assert method.step_size == 0.1


def test_which_methods_compress() -> None:
    full = {"anchored_extragradient", "extragradient", "fed_gda_gt", "forward_backward_forward", "golden_ratio", "local_sgda"}
    full |= {"bandit", "block_descent", "mask_average", "ogda", "power_sgd", "prox_skip_vip"}
    assert {name for name in METHODS if not takes_compressors(name)} == full


def test_parameters_reach_the_method(game: BilinearGame) -> None:
    method = make_method("masha1", game, up=RAND, down=FULL, step_size=0.1, probability=0.2, rule="next", wire="float64")
    assert (method.up, method.down) == (RAND, FULL)
    assert (method.step_size, method.probability, method.rule, method.wire) == (0.1, 0.2, "next", "float64")
    assert method.prox == game.prox


def test_steps_come_from_theory_when_none_is_given(game: BilinearGame) -> None:
    for name, up in (("masha1", RAND), ("masha2", TOP)):
        assert make_method(name, game, up=up, down=FULL, step_size=None) == make_method(name, game, up=up, down=FULL)
    assert make_method("ogda", game).step_size == 0.5 / game.constants.lipschitz


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("masha3", {}, f"unknown method 'masha3'; known: {', '.join(sorted(METHODS))}"),
        ("masha1", {}, "method 'masha1' needs compressors up and down"),
        ("masha2", {"up": TOP}, "method 'masha2' needs compressors up and down"),
        ("ogda", {"up": RAND}, "method 'ogda' takes no compressors up or down"),
        ("extragradient", {"down": FULL}, "method 'extragradient' takes no compressors"),
        ("ogda", {"rule": "next"}, "method 'ogda' has no parameter 'rule'; known: step_size, wire"),
        (
            "masha1",
            {"up": RAND, "down": FULL, "steps": 1},
            "method 'masha1' has no parameter 'steps'; known: batch, participants, probability, rule, step_size, sync_batch",
        ),
        ("masha1", {"up": TOP, "down": FULL}, r"masha1 needs an unbiased compressor up, got TopK\(k=2, .*\) \(contractive\)"),
        ("masha2", {"up": TOP, "down": RAND}, r"masha2 needs a contractive compressor down, got RandK\(k=2, .*\) \(unbiased\)"),
        ("masha1", {"up": RAND, "down": FULL, "probability": 2.0}, r"probability must lie in \(0, 1\], got 2.0"),
    ],
)
def test_what_does_not_fit_is_named(name: str, params: dict[str, Any], message: str, game: BilinearGame) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_method(name, game, **params)
    assert "\n" not in str(caught.value)
