"""The check accepts what is right and names the broken law of what is wrong."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    METHODS,
    AnyMethod,
    FiniteSum,
    Masha1,
    Message,
    Ogda,
    Operator,
    Problem,
    check_method,
    make_method,
    masha1,
)
from saddlebag.algorithms.methods.full import FullServer, FullWorker
from saddlebag.algorithms.methods.masha.masha1 import Masha1Server, Masha1Worker
from saddlebag.compression import Compressor, Dense, Draws, Grid, Identity, Mean, Natural, RandK, TopK, UnscaledRandK, Vector
from saddlebag.errors import ConfigError
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.methods.masha.anchor import AnchoredReplica
    from saddlebag.algorithms.problems import BilinearGame, FiniteBilinearGame, RobustLogisticRegression

FULL, RAND, COMMON, TOP = Identity(), RandK(fraction=0.2), RandK(fraction=0.2, support="common"), TopK(fraction=0.2)
PRACTICE = ("adamw", "extra_adam", "lamb", "optimistic_adam", "sgd")
COMPRESSORS: dict[str, list[tuple[Compressor, Compressor]]] = {
    **{f"compressed_{rule}": [(TOP, Grid())] for rule in PRACTICE},
    "anchored_extragradient": [],
    "bandit": [],
    "compressed_extragradient": [(RAND, TOP), (COMMON, FULL)],
    "compressed_fed_gda_gt": [(TOP, TOP), (Grid(), FULL)],
    "diana_sgda": [(RAND, FULL), (COMMON, Natural())],
    "diloco": [(FULL, FULL), (TOP, TOP)],
    "extragradient": [],
    "extragradient_feedback": [(TOP, TOP)],
    "fed_gda_gt": [],
    "forward_backward_forward": [],
    "golden_ratio": [],
    "innovations": [(Grid(), Grid(step=0.5)), (TOP, FULL), (Grid(step="auto"), Grid(step="auto"))],
    "local_average": [(FULL, FULL), (TOP, FULL)],
    "local_sgda": [],
    "masha1": [(RAND, FULL), (COMMON, Natural()), (Natural(), RAND)],
    "masha2": [(TOP, TOP), (UnscaledRandK(fraction=0.2, support="common"), FULL)],
    "ogda": [],
    "optimistic_masha": [(RAND, FULL), (COMMON, Natural())],
    "prox_skip_vip": [],
    "qoda": [(RAND, FULL), (COMMON, Natural())],
    "qsgda": [(RAND, FULL), (COMMON, Natural())],
    "sparse_loco": [(TOP, TOP)],
    "three_pillars": [(RAND, FULL), (COMMON, FULL)],
    "vr_diana_sgda": [(RAND, FULL), (COMMON, Natural())],
}
NEEDS_MORE = (
    "active_set",
    "bilevel_pruning",
    "block_descent",
    "mask_average",
    "muloco",
    "power_sgd",
)  # their own tests have problems that fit: masks, matrices
WITHOUT_PROX = (
    "anchored_extragradient",
    "masha2",
    "extragradient_feedback",
    "fed_gda_gt",
    "prox_skip_vip",
    "compressed_fed_gda_gt",
    "qoda",
)


def variants(name: str, problem: Problem) -> list[AnyMethod]:
    if name == "bandit":
        rules = ("thompson", "epsilon_greedy", "elimination")
        return [make_method(name, problem, step_size=0.1, rule=rule, every=2) for rule in rules]
    if not COMPRESSORS[name]:
        return [make_method(name, problem, step_size=0.1, wire=wire) for wire in ("float32", "float64")]
    rules: list[dict[str, Any]] = [{}]
    if name.removeprefix("compressed_") in PRACTICE:
        known: dict[str, Any] = {"memory": "innovations", "clip_estimate": 3.0}
        local: dict[str, Any] = {"local_steps": 2, "local_step_size": 0.05, "local_rule": "adamw_kept", "momentum_up": 0.5}
        rules = [{"clip_norm": 2.0, "weight_decay": 0.1}, known, known | local, local]
    if name == "three_pillars":
        rules += [{"participants": 2}]
    if name.startswith("masha"):
        rules = [{"rule": "current"}, {"rule": "next"}]
        if name == "masha1":
            rules += [{"rule": rule, "participants": 2} for rule in ("current", "next")]
        if isinstance(problem.operator(0), FiniteSum):
            rules += [{"rule": rule, "batch": 2, "sync_batch": sync} for rule in ("current", "next") for sync in (None, 6)]
    return [
        make_method(name, problem, up=up, down=down, step_size=0.1, **rule) for up, down in COMPRESSORS[name] for rule in rules
    ]


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(NEEDS_MORE)))
@pytest.mark.parametrize("wire", [None, LoopbackWire()], ids=["unwired", "loopback"])
def test_right_ones_pass_on_a_game(name: str, wire: LoopbackWire | None, samples: FiniteBilinearGame) -> None:
    game = samples
    for method in variants(name, game):
        check_method(method, game, wire=wire)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(NEEDS_MORE)))
@pytest.mark.parametrize("wire", [None, LoopbackWire()], ids=["unwired", "loopback"])
def test_right_ones_pass_with_a_prox(name: str, wire: LoopbackWire | None, robust: RobustLogisticRegression) -> None:
    if name in WITHOUT_PROX:
        with pytest.raises(ConfigError, match=f"{name} has no prox"):
            variants(name, robust)
        return
    for method in variants(name, robust):
        check_method(method, robust, wire=wire)


# --- each of these breaks one law -------------------------------------------------------------------------------------


class ChangesItsReplica(Masha1):
    def replay(self, replica: AnchoredReplica, down: Message, draws: Draws) -> AnchoredReplica:
        after = super().replay(replica, down, draws)
        replica.z_D[:] = 0.0  # the same every time, so results agree while the argument does not
        return after


class ChangesItsWorker(Masha1):
    def worker_step(self, replica: Any, own: Masha1Worker, operator: Operator, draws: Draws) -> tuple[Masha1Worker, Message]:
        result = super().worker_step(replica, own, operator, draws)
        own.operator_w_D.fill(1.0)
        return result


class ChangesItsServer(Masha1):
    def server_step(
        self, replica: Any, own: Masha1Server, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Masha1Server, Message]:
        own.operator_w_D[:] += 1.0
        return super().server_step(replica, own, means, draws)


class AnnouncesOneTooMany(Masha1):
    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        return (*super().uplink_sizes(replica, draws), 1)


class AnnouncesTooFew(Masha1):
    def uplink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        return tuple(size - 1 for size in super().uplink_sizes(replica, draws))


class AnnouncesAnotherDownlink(Masha1):
    def downlink_sizes(self, replica: Any, draws: Draws) -> tuple[int, ...]:
        return (1,)


calls: list[int] = []  # the memory of the impure ones


class ImpureReplay(Masha1):
    def replay(self, replica: AnchoredReplica, down: Message, draws: Draws) -> AnchoredReplica:
        calls.append(1)
        after = super().replay(replica, down, draws)
        return dataclasses.replace(after, z_D=after.z_D + 1e-300 * len(calls) + 1e-16 * (len(calls) % 2))


class ImpureWorker(Masha1):
    def worker_step(self, replica: Any, own: Masha1Worker, operator: Operator, draws: Draws) -> tuple[Masha1Worker, Message]:
        calls.append(1)
        own, up = super().worker_step(replica, own, operator, draws)
        return own, Message((Dense(np.full(len(replica.z_D), float(len(calls)))), *up.parts[1:]))


class ImpureServer(Masha1):
    def server_step(
        self, replica: Any, own: Masha1Server, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Masha1Server, Message]:
        calls.append(1)
        own, down = super().server_step(replica, own, means, draws)
        return Masha1Server(own.operator_w_D + len(calls)), down


class NoProx(Masha1):
    """Asks the operator at the half point before it is projected."""

    def worker_step(self, replica: Any, own: Masha1Worker, operator: Operator, draws: Draws) -> tuple[Masha1Worker, Message]:
        return Masha1.worker_step(dataclasses.replace(self, prox=lambda v_D, _: v_D), replica, own, operator, draws)


class NeverMoves(Masha1):
    def replay(self, replica: AnchoredReplica, down: Message, draws: Draws) -> AnchoredReplica:
        return dataclasses.replace(super().replay(replica, down, draws), iteration=0)


class RestartsElsewhere(Masha1):
    def init_replica(self, z_D: Vector) -> AnchoredReplica:
        return super().init_replica(0.5 * z_D)


WRONG_ON_A_GAME: list[tuple[Callable[..., Masha1], str]] = [
    (ChangesItsReplica, "replay: (changed its arguments|equal arguments gave different results)"),
    (ChangesItsWorker, "worker_step: (changed its arguments|equal arguments gave different results)"),
    (ChangesItsServer, "server_step: (changed its arguments|equal arguments gave different results)"),
    (AnnouncesOneTooMany, r"announced parts of sizes \(20, 1\), sent \(20,\)"),
    (AnnouncesTooFew, r"announced parts of sizes \(19,\), sent \(20,\)"),
    (AnnouncesAnotherDownlink, r"announced parts of sizes \(1,\), sent \(20,\)"),
    (ImpureReplay, "replay: equal arguments gave different results"),
    (ImpureWorker, "worker_step: equal arguments gave different results"),
    (ImpureServer, "server_step: equal arguments gave different results"),
    (NeverMoves, "40 rounds completed no iteration"),
    (RestartsElsewhere, "a restart moved z"),
]


def plug_in(kind: Callable[..., Masha1], problem: Problem) -> Masha1:
    return kind(step_size=0.1, probability=0.3, up=RAND, down=FULL, prox=problem.prox)


@pytest.mark.parametrize(("wrong", "law"), WRONG_ON_A_GAME)
def test_wrong_ones_fail(wrong: type[Masha1], law: str, game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match=law):
        check_method(plug_in(wrong, game), game)


def test_an_infeasible_question_fails(game: BilinearGame, robust: RobustLogisticRegression) -> None:
    check_method(plug_in(NoProx, game), game)  # where everything is feasible
    with pytest.raises(AssertionError, match="the operator was asked at an infeasible point"):
        check_method(plug_in(NoProx, robust), robust)


class Rounds(LoopbackWire):
    """A wire that loses the last bits."""

    def carry(self, message: Message, sizes: tuple[int, ...], draws: Draws) -> tuple[Message, int]:
        message, num_bytes = super().carry(message, sizes, draws)
        return Message(tuple(Dense(part.dense().astype(np.float16)) for part in message.parts)), num_bytes


def test_a_message_that_changes_on_the_wire_fails(game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match="the message changed on the wire"):
        check_method(plug_in(Masha1, game), game, wire=Rounds())


@dataclasses.dataclass(frozen=True, eq=False)
class Truncated(FullWorker):
    """A worker's state whose saved form is not the whole of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator_D", self.operator_D.astype(np.float32).astype(np.float64) + 1e-9)


class RestoredElsewhere(Ogda):
    def init_worker(self, replica: Any) -> Truncated:
        return Truncated(super().init_worker(replica).operator_D)

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        own, up = super().worker_step(replica, own, operator, draws)
        return Truncated(own.operator_D), up


def test_a_state_that_does_not_survive_fails(game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match="Truncated does not survive pack and unpack"):
        check_method(RestoredElsewhere(step_size=0.1), game)


class ChangesItsKind(Ogda):
    """Its worker's state ends as another class, with the same fields."""

    def init_worker(self, replica: Any) -> FullServer:  # type: ignore[override]
        return FullServer(super().init_worker(replica).operator_D)


def test_a_state_that_becomes_another_kind_fails(game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match="FullWorker is no FullServer, as which this state began"):
        check_method(ChangesItsKind(step_size=0.1), game)


class Misspelt(Ogda):
    """`foreseen` in another spelling, which no driver would ever ask."""

    def forseen(self, own: Any) -> None: ...


def test_a_public_attribute_that_no_capability_knows_fails(game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match=r"Misspelt\.forseen: no capability has this name; did you mean 'foreseen'\?"):
        check_method(Misspelt(step_size=0.1), game)


class SinglePrecision(Ogda):
    """Its state would come back from a checkpoint with the same values, and go on in other arithmetic."""

    def replay(self, replica: Any, down: Message, draws: Draws) -> Any:
        after = super().replay(replica, down, draws)
        return dataclasses.replace(after, z_D=after.z_D.astype(np.float32))


class Unfinished(Ogda):
    def init_worker(self, replica: Any) -> FullWorker:
        return FullWorker(None)  # type: ignore[arg-type]

    def worker_step(self, replica: Any, own: Any, operator: Operator, draws: Draws) -> tuple[Any, Message]:
        return super().worker_step(replica, FullWorker(np.zeros(len(replica.z_D))), operator, draws)


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (SinglePrecision, r"OgdaReplica\.z_D is float32; states hold float64"),
        (Unfinished, "FullWorker does not survive pack and unpack: FullWorker has no operator_D; it has nothing"),
    ],
)
def test_states_that_would_change_type_fail(wrong: type[Ogda], law: str, game: BilinearGame) -> None:
    with pytest.raises(AssertionError, match=law):
        check_method(wrong(step_size=0.1), game)


def test_the_default_is_right_or_the_tests_above_prove_nothing(game: BilinearGame, robust: RobustLogisticRegression) -> None:
    check_method(plug_in(Masha1, game), game, wire=LoopbackWire())
    check_method(plug_in(Masha1, robust), robust, wire=LoopbackWire())
    assert masha1(game, up=RAND, down=FULL, step_size=0.1, probability=0.3) == plug_in(Masha1, game)
    assert FullServer(np.zeros(1)).operator_D[0] == 0
