"""Two halves joined in memory: the protocol keeps one trajectory whatever order, cut, loss or crash."""

from __future__ import annotations

import dataclasses
import random
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.algorithms import (
    AnyMethod,
    Outcome,
    Stop,
    compressed_adamw,
    compressed_sgd,
    digest,
    extragradient,
    innovations,
    masha1,
    masha2,
    ogda,
    optimistic_masha,
    power_sgd,
    simulate,
    three_pillars,
)
from saddlebag.algorithms.averages.means import MEANS, make_mean
from saddlebag.algorithms.optimizers.inner import Inner
from saddlebag.algorithms.optimizers.narrow_local import NarrowLocalRounds
from saddlebag.algorithms.optimizers.narrow_optimizer import NarrowOptimizer
from saddlebag.algorithms.optimizers.rules import Adam
from saddlebag.compression import Grid, Identity, PermK, RandK, TopK
from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.errors import ConfigError, RemoteProtocolError, StateError
from saddlebag.proto.codec import LoopbackWire
from saddlebag.proto.frames import frames_of
from saddlebag.proto.handshake import JoinAsk
from saddlebag.server.effects import Close, NewEpoch, Note, ServerSettings
from saddlebag.server.joining import RunOver
from saddlebag.server.roster import START_S

if TYPE_CHECKING:
    from saddlebag.algorithms.problems import BilinearGame

Reference = Callable[..., Outcome]
STOP = Stop(max_rounds=60, every=7)
WALK = Inner(steps=3, rule=Adam(), step_size=0.02, clip_norm=2.0)
LOCAL: dict[str, Any] = {"local_steps": 2, "local_step_size": 0.02, "local_rule": "adamw_kept"}


def methods(game: BilinearGame) -> list[AnyMethod]:
    return [
        masha1(game, up=RandK(fraction=0.25), down=Identity(), step_size=0.2),
        masha1(game, up=RandK(fraction=0.25, support="common"), down=Identity(), step_size=0.1, rule="next"),
        masha2(game, up=TopK(fraction=0.25), down=TopK(fraction=0.25), step_size=0.1),
        extragradient(game),
        ogda(game),
        masha1(game, up=RandK(fraction=0.25), down=Identity(), step_size=0.2, participants=1),  # catch-ups are cheaper
        masha1(game, up=RandK(k=1, support="common"), down=Identity(), step_size=0.02, participants=2),  # downlinks are
        masha1(game, up=RandK(fraction=0.25), down=Identity(), step_size=0.2, participants=2, rule="next"),
        optimistic_masha(game, up=PermK(workers=4), down=Identity(), step_size=0.1),
        three_pillars(game, up=Identity(), down=Identity(), step_size=0.3, participants=2, probability=0.2),
        innovations(game, up=Grid(), down=Grid(step=0.5), step_size="auto"),
        masha2(game, up=TopK(fraction=0.25), down=TopK(fraction=0.25), step_size="auto"),
        compressed_adamw(game, up=TopK(k=2), down=Grid(), step_size=0.05, memory="innovations", momentum_up=0.5, **LOCAL),
        power_sgd(_as_matrix(game), step_size=0.05, rank=1, worth=0.9),
        NarrowOptimizer(rule=Adam(weight_decay=0.01), up=TopK(k=2), down=Grid(), step_size=0.05, clip_norm=3.0),
        NarrowLocalRounds(inner=WALK, momentum=0.6, decay=0.9, up=TopK(k=3), down=Grid(), step_size=0.7),
    ]


def _as_matrix(game: BilinearGame) -> Any:
    return types.SimpleNamespace(name=game.name, prox=game.prox, tensors=[Tensor("z", (3, 4))])


def check_books(net: Any, expected: Outcome) -> None:
    """Every byte the transport counted is of exactly one kind, and those of the trajectory are the in-process ones."""
    ledger = net.server.ledger
    for traffic in (ledger.up, ledger.down):
        assert traffic.transport == traffic.payload + traffic.framing + traffic.control + traffic.repeated
    assert ledger.up.payload == expected.up_bytes
    assert ledger.down.payload == net.server.down_bytes == expected.down_bytes


@pytest.mark.parametrize("which", range(16))
@pytest.mark.parametrize("frame_bytes", [8, 40, 1 << 20])
def test_any_order_and_frame_size_equals_simulate(
    game: BilinearGame, network: Any, reference: Reference, which: int, frame_bytes: int
) -> None:
    method = methods(game)[which]
    expected = reference(game, method, STOP)
    net = network(game, method, STOP, rng=random.Random(which), frame_bytes=frame_bytes)
    net.run()
    assert net.early > 0
    assert digest(net.server.replica) == digest(expected.replica)
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(expected.replica)}
    assert [(r.round, r.merits, r.up_bytes, r.down_bytes) for r in net.records] == [
        (r.round, r.merits, r.up_bytes, r.down_bytes) for r in expected.history
    ]
    check_books(net, expected)


@pytest.mark.parametrize("name", sorted(MEANS))
def test_rules_in_place_of_the_mean_over_frames_and_kills_equal_simulate(game: BilinearGame, network: Any, name: str) -> None:
    rule = make_mean({"name": name, "fraction": 0.25} if name == "trimmed_mean" else name)
    rng = random.Random(name)
    method = compressed_sgd(game, step_size=0.02, up=Grid(), down=Grid(step=0.5))
    expected = simulate(game, method, seed=7, stop=STOP, wire=LoopbackWire(), rule=rule, scored=True)
    unruled = simulate(game, method, seed=7, stop=STOP, wire=LoopbackWire())
    assert digest(expected.replica) != digest(unruled.replica)
    net = network(game, method, STOP, rng=rng, frame_bytes=40, checkpoint_every=5, mean=rule, contributions=True)
    net.run([(rng.choice(["server", "0", "1", "2", "3"]), rng.randrange(60)) for _ in range(6)])
    assert digest(net.server.replica) == digest(expected.replica)
    check_books(net, expected)
    assert tuple(net.server.contribution_W.tolist()) == expected.contributions
    plain = network(game, method, STOP, rng=rng, frame_bytes=40, contributions=True)  # scores change no bit of the plain mean
    plain.run()
    assert digest(plain.server.replica) == digest(unruled.replica)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("every", [1, 5, 16])
def test_killed_processes_resume_on_the_same_trajectory(
    game: BilinearGame, network: Any, reference: Reference, seed: int, every: int
) -> None:
    rng = random.Random(1000 * every + seed)
    method = rng.choice(methods(game))
    kills = [(rng.choice(["server", "0", "1", "2", "3"]), rng.randrange(60)) for _ in range(12)]
    expected = reference(game, method, STOP)
    net = network(game, method, STOP, rng=rng, frame_bytes=40, checkpoint_every=every)
    net.run(kills)
    assert digest(net.server.replica) == digest(expected.replica)
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(expected.replica)}
    assert net.server.epoch == 0, "no kill may cost the trajectory"
    check_books(net, expected)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("every", [1, 5, 16])
def test_killed_processes_resume_with_idle_workers_too(
    game: BilinearGame, network: Any, reference: Reference, seed: int, every: int
) -> None:
    rng = random.Random(1000 * every + seed)
    method = methods(game)[5 + seed % 3]
    kills = [(rng.choice(["server", "0", "1", "2", "3"]), rng.randrange(60)) for _ in range(12)]
    expected = reference(game, method, STOP)
    net = network(game, method, STOP, rng=rng, frame_bytes=40, checkpoint_every=every)
    net.run(kills)
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(expected.replica)}
    assert net.server.epoch == 0, "no kill may cost the trajectory"
    check_books(net, expected)
    if seed % 3 < 2:
        assert (net.jumps > 0) == (seed % 3 == 0), "the cheaper way is taken"


def test_a_lost_idle_worker_holds_nobody_up_and_a_short_log_costs_an_epoch(game: BilinearGame, network: Any) -> None:
    method = masha1(game, up=RandK(fraction=0.25), down=Identity(), step_size=0.2, participants=1, probability=0.02)
    net = network(game, method, Stop(max_rounds=400), rng=random.Random(5), log_bytes=1)
    for _ in range(40):
        net.turn(net.rng.randrange(4))
    idle = next(w for w in range(4) if not net.server.needs_uplink(w))
    before = net.server.round
    others = [w for w in range(4) if w != idle]
    for _ in range(200):
        net.turn(net.rng.choice(others))
    assert net.server.round > before
    assert net.server.tick(net.now) == []
    net.kill(str(idle))  # it has no checkpoint, and the log holds one round
    net.run()
    assert net.server.epoch >= 1
    assert len({digest(worker.replica) for worker in net.workers.values()}) == 1


def test_a_diverged_replica_is_healed_at_the_next_synchronisation(
    game: BilinearGame, game_method: AnyMethod, network: Any, reference: Reference
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(0))
    original = net.workers[2].apply

    def corrupt(down: Any) -> None:
        original(down)
        if net.workers[2].round == 9:
            replica = net.workers[2].replica
            net.workers[2].replica = dataclasses.replace(replica, z_D=replica.z_D + 1e-9)

    net.workers[2].apply = corrupt
    net.run()
    assert net.server.ledger.digest_mismatches == 1
    assert any("worker 2's replica differs" in note for note in net.notes)
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(net.server.replica)}
    relative = net.records[-1].merits["relative_error"]
    undisturbed = reference(game, game_method, STOP).history[-1].merits["relative_error"]
    assert relative == pytest.approx(undisturbed, rel=1e-3)


def test_a_worker_without_state_starts_a_new_epoch_and_the_run_converges(
    game: BilinearGame, game_method: AnyMethod, network: Any
) -> None:
    net = network(game, game_method, Stop(merit=1e-6, max_rounds=4000), rng=random.Random(1), log_bytes=1)
    net.run([("2", 20)])
    assert (net.server.epoch, net.server.finished) == (1, "merit")
    assert any("worker 2 joined without the state" in note for note in net.notes)
    assert len({digest(worker.replica) for worker in net.workers.values()}) == 1


def test_a_new_epoch_keeps_what_the_method_keeps(game: BilinearGame, network: Any) -> None:
    method = compressed_adamw(game, up=TopK(k=2), down=Grid(), step_size=0.05, memory="innovations")
    net = network(game, method, STOP, rng=random.Random(1), log_bytes=1)
    net.run([("2", 20)])
    assert (net.server.epoch, net.server.finished) == (1, "max_rounds")
    assert net.server.replica.iteration == net.server.round  # the place in a schedule; a start from z would count from 0
    assert {digest(worker.replica) for worker in net.workers.values()} == {digest(net.server.replica)}


def test_a_lost_worker_is_dropped_from_the_definition_and_comes_back(
    game: BilinearGame, game_method: AnyMethod, network: Any
) -> None:
    net = network(
        game, game_method, Stop(max_rounds=400), rng=random.Random(2), lease_s=5.0, on_lost="drop", checkpoint_every=10
    )
    for _ in range(300):
        net.turn(net.rng.choice([0, 1, 3]))  # worker 2 never comes
    assert net.server.round == 0
    net.now += START_S + 1
    for rank in (0, 1, 3):
        net.server.roster.see(rank, net.now)
    effects = net.server.tick(net.now)
    assert any(isinstance(effect, NewEpoch) for effect in effects)
    net.apply(effects)
    assert net.server.members == (0, 1, 3)
    for _ in range(300):
        net.turn(net.rng.choice([0, 1, 3]))
    assert net.server.round > 5
    net.join(2)
    assert net.server.members == (0, 1, 2, 3)
    net.run()
    assert net.server.finished == "max_rounds"
    assert len({digest(worker.replica) for worker in net.workers.values()}) == 1


@pytest.mark.parametrize("on_lost", ["pause", "drop"])
def test_a_worker_without_a_state_begins_no_epoch_in_a_run_that_is_over(
    game: BilinearGame, game_method: AnyMethod, network: Any, on_lost: str
) -> None:
    """Else the others, whose last downlink is on its way, would never come to the end."""
    net = network(game, game_method, STOP, rng=random.Random(2), on_lost=on_lost, log_bytes=1, checkpoint_every=10)
    while net.server.finished is None:
        net.now += 0.001
        net.turn(net.rng.randrange(4))
    left = next(rank for rank in range(4) if rank not in net.done)
    stranger = JoinAsk(worker=(left + 1) % 4, recipe="{}", dimension=net.server.replica.z_D.size, rounds=(0,))
    epoch = net.server.epoch
    with pytest.raises(RunOver, match="the run is over: max_rounds"):
        net.server.join(stranger, "back", net.now)
    assert net.server.leave((left + 1) % 4, "", net.now) == []
    assert (net.server.epoch, len(net.server.members)) == (epoch, 4)
    delivery = net.server.delivery(left, net.workers[left].round)
    assert delivery is not None
    assert net.server.is_final(delivery.end - 1)


def test_seconds_in_which_the_server_did_not_run_are_the_runs_from_its_first_frame_on(
    game: BilinearGame, game_method: AnyMethod, network: Any
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(2))
    net.server.pass_idle(5.0)
    assert net.server.spent_s == 0.0
    while net.server.round == 0:
        net.turn(net.rng.randrange(4))
    before = net.server.spent_s
    net.server.pass_idle(5.0)
    assert net.server.spent_s == before + 5.0


def test_a_paused_run_says_so_once_and_goes_on(
    game: BilinearGame, game_method: AnyMethod, network: Any, reference: Reference
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(3), lease_s=5.0)
    for rank in (0, 1, 3):
        net.turn(rank), net.turn(rank)
    net.now += START_S + 1
    for rank in (0, 1, 3):
        net.server.roster.see(rank, net.now)
    first, second = net.server.tick(net.now), net.server.tick(net.now + 1)
    assert [type(effect) for effect in first] == [Note]
    assert "worker 2" in first[0].text
    assert second == []
    net.run()
    assert digest(net.server.replica) == digest(reference(game, game_method, STOP).replica)


def test_stale_repeated_and_foreign_frames_change_nothing(
    game: BilinearGame, game_method: AnyMethod, network: Any, reference: Reference
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(4))
    for rank in range(4):
        net.join(rank)
    worker = net.workers[0]
    buffers, _ = worker.step()
    raw = next(frames_of(buffers, epoch=0, round_=0, sender=1))
    net.apply(net.server.frame(0, raw, 0.0))
    net.apply(net.server.frame(0, raw, 0.0))
    assert net.server.ledger.stale_frames == 1
    with pytest.raises(RemoteProtocolError, match="sender 1"):
        net.server.frame(1, raw, 0.0)
    with pytest.raises(RemoteProtocolError, match="ahead"):
        net.server.frame(1, next(frames_of(buffers, epoch=0, round_=3, sender=2)), 0.0)
    with pytest.raises(RemoteProtocolError, match="frame 1 where 0"):
        net.server.frame(1, list(frames_of(buffers, epoch=0, round_=0, sender=2, frame_bytes=16))[1], 0.0)
    for rank in range(4):
        net.server.lost(rank, net.joined.pop(rank), 0.0)
    net.run()
    expected = reference(game, game_method, STOP)
    assert digest(net.server.replica) == digest(expected.replica)
    check_books(net, expected)


def test_a_lying_uplink_is_refused_and_the_honest_one_replaces_it(
    game: BilinearGame, game_method: AnyMethod, network: Any, reference: Reference
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(5))
    net.join(0)
    lie = np.full(12, np.nan, "<f4").tobytes()
    with pytest.raises(RemoteProtocolError, match="finite"):
        net.server.frame(0, next(frames_of([b"\x01", lie], epoch=0, round_=0, sender=1)), 0.0)
    net.server.lost(0, net.joined.pop(0), 0.0)
    with pytest.raises(RemoteProtocolError, match="exceeds"):
        net.server.frame(0, next(frames_of([b"\x01" * 4096], epoch=0, round_=0, sender=1)), 0.0)
    net.server.lost(0, "", 0.0)
    net.run()
    assert digest(net.server.replica) == digest(reference(game, game_method, STOP).replica)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worker": 4}, r"rank must lie in \[0, 4\), got 4"),
        ({"dimension": 11}, "dimension differs: worker 0 has 11, the server 12"),
        ({"token": "guess"}, "token is wrong"),
        ({"recipe": '{"method":{"step_size":0.2}}'}, "method.step_size is 0.2 there and 0.1 here"),
    ],
)
def test_a_worker_that_does_not_fit_is_refused(
    game: BilinearGame, game_method: AnyMethod, network: Any, change: dict[str, Any], message: str
) -> None:
    recipe = '{"method":{"step_size":0.1}}'
    net = network(game, game_method, STOP, rng=random.Random(0), token="secret", recipe=recipe)
    ask = JoinAsk(worker=0, recipe=recipe, dimension=12, token="secret")
    with pytest.raises(ConfigError, match=message):
        net.server.join(dataclasses.replace(ask, **change), "s", 0.0)
    net.server.join(ask, "s", 0.0)


def test_a_checkpoint_of_another_shape_is_refused(game: BilinearGame, game_method: AnyMethod, network: Any) -> None:
    net = network(game, game_method, STOP, rng=random.Random(0), checkpoint_every=5)
    net.run()
    arrays, meta = net.saves["server"][max(net.saves["server"])]
    fresh = network(game, game_method, STOP, rng=random.Random(0), checkpoint_every=5).server
    with pytest.raises(StateError, match="z_D"):
        fresh.restore({name: array[:3] if array.ndim else array for name, array in arrays.items()}, meta, 0.0)
    with pytest.raises(StateError, match="damaged"):
        fresh.restore(arrays, {**meta, "ledger": None}, 0.0)
    with pytest.raises(ConfigError, match="recipes differ"):
        fresh.restore(arrays, {**meta, "recipe": '{"seed":1}'}, 0.0)


@pytest.mark.parametrize(
    "bad",
    [{"num_workers": 0}, {"lease_s": 0}, {"lease_s": 9, "round_deadline_s": 3}, {"on_lost": "retry"}, {"checkpoint_every": -1}],
)
def test_settings_are_checked(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(**{"num_workers": 2, "seed": 0, **bad})


def test_a_message_that_stands_still_ends_its_stream_and_comes_again(
    game: BilinearGame, game_method: AnyMethod, network: Any, reference: Reference
) -> None:
    """Its worker's heart beats all the while."""
    net = network(game, game_method, STOP, rng=random.Random(6), frame_bytes=16)
    for rank in range(4):
        net.turn(rank)  # joins
    net.turn(0)
    net.turn(1, cut=1)
    assert net.unsent[1]
    lease_s = net.server.settings.lease_s
    net.now += lease_s
    for rank in range(4):
        net.server.roster.see(rank, net.now)
    assert net.server.tick(net.now) == []
    net.now += 1.0
    note, close = net.server.tick(net.now)
    assert "worker 1's message of round 0 has not advanced for 11 s" in note.text
    assert close == Close(1, note.text)
    assert net.server.tick(net.now) == []
    net.server.lost(1, net.joined.pop(1), net.now, told=True)
    net.run()
    assert digest(net.server.replica) == digest(reference(game, game_method, STOP).replica)


def test_whom_a_round_waits_for_is_told_at_once_where_somebody_is_gone(
    game: BilinearGame, game_method: AnyMethod, network: Any
) -> None:
    net = network(game, game_method, STOP, rng=random.Random(6))
    for rank in range(4):
        net.turn(rank)
    net.turn(0)
    assert net.server.waiting(net.now) == ""
    assert net.server.waiting(net.now + 4.0).startswith("round 0 waits 4 s for worker 1, 2, 3 (last heard of 4 s ago")
    net.server.lost(2, net.joined[2], net.now + 1.0)
    assert net.server.waiting(net.now + 1.5).startswith("round 0 waits 2 s for worker 2 (its stream broke 0 s ago")
    (note,) = net.server.tick(net.now + 2.5)
    assert note.text == "round 0: worker 2: its stream broke 1.5 s ago; waiting for it to come back"
