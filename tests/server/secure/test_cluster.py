"""Secure aggregation over real gRPC on loopback, in one process: the bits of the clear run, whoever drops out or lies."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

import saddlebag as sb
from saddlebag.algorithms import Judge, Stop, digest
from saddlebag.algorithms.merging import Arrivals, replayed
from saddlebag.client import securing
from saddlebag.client.core import WorkerCore
from saddlebag.client.securing import Securing
from saddlebag.client.shell import WorkerShell
from saddlebag.errors import ConfigError, SaddlebagError
from saddlebag.proto.codec import LoopbackWire
from saddlebag.proto.endpoint import ClientSecurity, ServerSecurity
from saddlebag.proto.secure.identity import Identity
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step
from saddlebag.proto.secure.primitives import public_of
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.secure.core import SecureCore
from saddlebag.server.shell import ServerShell

WORKERS, ROUNDS = 5, 8


class Dies(Exception):
    """A process is gone."""


class Fleet:
    """A server and its workers on loopback; `evil` (rank, round, step, data) may change what a member says, or kill it."""

    masked = True

    def __init__(self, monkeypatch: Any, *, up: str = "nearest_int8", evil: Any = None, **settings: Any) -> None:
        self.problem = sb.make_problem("quadratic", n=20, workers=WORKERS, seed=3)
        self.method = sb.make_method(
            "compressed_sgd", self.problem, step_size=0.05, up=up, down=up, common_range=0.5, momentum=0.9
        )
        self.notes: list[str] = []
        self.log: list[Arrivals] = []
        self.seen: list[bytes] = []
        stop = Stop(max_rounds=ROUNDS)
        given = {"num_workers": WORKERS, "seed": 7, "secure": 3, "lease_s": 3.0, **settings}
        self.core: ServerCore = SecureCore(
            self.method, Judge(self.problem, stop), self.problem.start(), ServerSettings(**given), time.monotonic()
        )
        self.server = ServerShell(self.core, note=self.notes.append, counts=self.log.append)
        self._evil = evil
        monkeypatch.setattr(securing, "Member", self._member)

    def _member(self, worker: int, **ways: Any) -> Member:
        member = Member(worker, **ways)
        if self._evil is not None:
            for step in Step:
                self._hook(member, worker, step)
        return member

    def _hook(self, member: Any, worker: int, step: Step) -> None:
        says = getattr(member, step.name.lower())

        def changed(*told: Any) -> bytes:
            return self._evil(worker, self.core.round, step, says(*told))

        setattr(member, step.name.lower(), changed)

    def identity(self, rank: int) -> Identity | None:
        return None

    def worker(self, rank: int, core: WorkerCore | None = None) -> WorkerShell:
        core = core or WorkerCore(self.method, self.problem.operator(rank), self.problem.start(), worker=rank, seed=7)
        given = self.core.settings
        ways: dict[str, Any] = {"recipe": "{}", "noise": given.noise, "identity": self.identity(rank)}
        masks = Securing(threshold=given.secure or 1, num_workers=WORKERS, **ways)
        return WorkerShell(core, recipe="{}", give_up_s=10.0, securing=masks if self.masked else None)

    async def _life(self, rank: int, *, returns: bool) -> WorkerShell | None:
        shell = self.worker(rank)
        try:
            await shell.run(self.address, ClientSecurity())
        except Dies:
            if not returns:
                self.server._final_taken.add(rank)  # the dead will not come for it
                return None
            shell = self.worker(rank, shell._core)
            await shell.run(self.address, ClientSecurity())
        return shell

    async def _main(self, *, returns: bool) -> list[WorkerShell | None]:
        port = await self.server.start("127.0.0.1:0", ServerSecurity())
        self.address = f"127.0.0.1:{port}"
        serving = asyncio.create_task(self.server.run())
        lives = [asyncio.create_task(self._life(rank, returns=returns)) for rank in range(WORKERS)]
        try:
            await asyncio.wait([serving, *lives], return_when=asyncio.FIRST_EXCEPTION)
            if serving.done():
                serving.result()
            shells = await asyncio.gather(*lives)
            await serving
            return shells
        finally:
            for task in (serving, *lives):
                task.cancel()
            await asyncio.gather(serving, *lives, return_exceptions=True)

    def run(self, *, returns: bool = False) -> list[WorkerShell | None]:
        return asyncio.run(asyncio.wait_for(self._main(returns=returns), 60))

    def in_the_clear(self) -> int:
        """The digest of the run of the same workers whose uplinks the server sees."""
        ways: dict[str, Any] = {"seed": 7, "weights": "equal", "wire": LoopbackWire(), "keeps_uplinks": False}
        return digest(replayed(self.problem, self.method, self.log, **ways))


def kills(rank: int, round_: int, when: Step) -> Any:
    """Kills a worker as it is about to take a step of a round, once."""
    done = []

    def evil(worker: int, here: int, step: Step, data: bytes) -> bytes:
        if (worker, here, step) == (rank, round_, when) and not done:
            done.append(True)
            raise Dies
        return data

    return evil


@pytest.mark.parametrize("up", ["nearest_int4", "nearest_int8"])
def test_the_run_is_that_of_simulate_to_the_last_bit(monkeypatch: Any, up: str) -> None:
    fleet = Fleet(monkeypatch, up=up)
    shells = fleet.run()
    clear = sb.simulate(fleet.problem, fleet.method, seed=7, stop=Stop(max_rounds=ROUNDS))
    assert digest(fleet.core.replica) == digest(clear.replica) == fleet.in_the_clear()
    assert {digest(shell._core.replica) for shell in shells if shell} == {digest(clear.replica)}
    assert [len(entry.counted) for entry in fleet.log] == [WORKERS] * ROUNDS


@pytest.mark.parametrize("lost", [None, 1])
def test_coordinates_that_all_workers_draw_alike_are_all_that_is_masked(monkeypatch: Any, lost: int | None) -> None:
    sizes: list[int] = []

    def evil(worker: int, round_: int, step: Step, data: bytes) -> bytes:
        if step is Step.MASKED:
            sizes.append(len(data))
        return kill(worker, round_, step, data)

    kill = (lambda worker, round_, step, data: data) if lost is None else kills(lost, 3, Step.MASKED)
    fleet = Fleet(monkeypatch, evil=evil, on_lost="drop")
    keys = {"up": "nearest_int8", "down": "nearest_int8", "common_range": 0.5, "momentum": 0.9}
    fleet.method = sb.make_method("compressed_sgd", fleet.problem, step_size=0.05, common_fraction=0.2, **keys)
    stop = Stop(max_rounds=ROUNDS)
    fleet.core = SecureCore(
        fleet.method, Judge(fleet.problem, stop), fleet.problem.start(), fleet.core.settings, time.monotonic()
    )
    fleet.server = ServerShell(fleet.core, counts=fleet.log.append)
    shells = fleet.run()
    size = len(fleet.problem.start())
    assert max(sizes) <= 0.2 * size * 11 / 8 + 16
    assert {digest(shell._core.replica) for shell in shells if shell} == {digest(fleet.core.replica)}
    if lost is None:
        clear = sb.simulate(fleet.problem, fleet.method, seed=7, stop=stop)
        assert digest(fleet.core.replica) == digest(clear.replica)
    else:
        assert len(fleet.log[-1].counted) == WORKERS - 1


@pytest.mark.parametrize("step", Step)
def test_a_fifth_of_the_workers_drops_out_at_a_step_and_the_bits_are_those_of_who_stayed(monkeypatch: Any, step: Step) -> None:
    fleet = Fleet(monkeypatch, evil=kills(1, 3, step), on_lost="drop")
    shells = fleet.run()
    stayed = [len(entry.counted) for entry in fleet.log]
    late = step is Step.UNMASK  # its vector has come
    assert stayed == [WORKERS] * (4 if late else 3) + [WORKERS - 1] * (ROUNDS - (4 if late else 3))
    assert digest(fleet.core.replica) == fleet.in_the_clear()
    assert {digest(shell._core.replica) for shell in shells if shell} == {digest(fleet.core.replica)}


@pytest.mark.parametrize("step", [Step.SHARES, Step.MASKED])
def test_a_run_that_pauses_for_a_lost_worker_has_the_bits_of_the_undisturbed_one(monkeypatch: Any, step: Step) -> None:
    fleet = Fleet(monkeypatch, evil=kills(2, 3, step))
    fleet.run(returns=True)
    clear = sb.simulate(fleet.problem, fleet.method, seed=7, stop=Stop(max_rounds=ROUNDS))
    assert digest(fleet.core.replica) == digest(clear.replica)


def test_a_worker_that_comes_back_is_counted_again(monkeypatch: Any) -> None:
    fleet = Fleet(monkeypatch, evil=kills(2, 2, Step.MASKED), on_lost="drop")
    fleet.run(returns=True)
    assert len(fleet.log[-1].counted) == WORKERS
    assert digest(fleet.core.replica) == fleet.in_the_clear()


def test_a_mask_that_does_not_cancel_ends_the_run_and_says_so(monkeypatch: Any) -> None:
    def evil(worker: int, round_: int, step: Step, data: bytes) -> bytes:
        return bytes((data[0] ^ 1,)) + data[1:] if (worker, round_, step) == (1, 2, Step.MASKED) else data

    with pytest.raises(SaddlebagError, match="the masks do not cancel: one of workers 0, 1, 2, 3, 4"):
        Fleet(monkeypatch, evil=evil).run()


def test_a_worker_with_a_wrong_key_is_refused_by_name_and_the_run_goes_on(monkeypatch: Any) -> None:
    def evil(worker: int, round_: int, step: Step, data: bytes) -> bytes:
        return bytes(64) if (worker, round_, step) == (4, 2, Step.KEYS) else data

    fleet = Fleet(monkeypatch, evil=evil, on_lost="drop")
    life = fleet._life

    async def refused(rank: int, *, returns: bool) -> Any:
        if rank != 4:
            return await life(rank, returns=returns)
        with pytest.raises(ConfigError, match="worker 4's keys: it is no public key of X25519"):
            await life(rank, returns=returns)
        fleet.server._final_taken.add(rank)
        return None

    fleet._life = refused  # type: ignore[method-assign]
    fleet.run()
    assert len(fleet.log[-1].counted) == WORKERS - 1
    assert digest(fleet.core.replica) == fleet.in_the_clear()


def test_a_wrong_share_is_named_and_the_round_survives(monkeypatch: Any) -> None:
    def evil(worker: int, round_: int, step: Step, data: bytes) -> bytes:
        return bytes(17) + data[17:] if (worker, round_, step) == (0, 2, Step.UNMASK) else data

    fleet = Fleet(monkeypatch, evil=evil)
    fleet.run()
    assert "round 2: worker 0's share of worker 0's secret is wrong" in fleet.notes
    assert digest(fleet.core.replica) == fleet.in_the_clear()


def test_a_run_that_cannot_be_unmasked_ends_and_says_why(monkeypatch: Any) -> None:
    def evil(worker: int, round_: int, step: Step, data: bytes) -> bytes:
        if worker < 3 and (round_, step) == (2, Step.UNMASK):
            raise Dies
        return data

    with pytest.raises(SaddlebagError, match="needs 3 workers, and 2 have sent unmask"):
        Fleet(monkeypatch, evil=evil, on_lost="drop").run()


def test_noise_of_all_workers_is_in_the_sum_and_nobody_owes_it(monkeypatch: Any) -> None:
    """Levels of zeros: what the first round's mean holds is noise, of sigma 40 a worker, thus 40 / sqrt(5) levels."""
    fleet = Fleet(monkeypatch, noise=40.0)
    fleet.problem = Silent(2000)
    keys = {"up": "nearest_int8", "down": "identity", "common_range": 127.0, "level_clip": 500.0}
    fleet.method = sb.make_method("compressed_sgd", fleet.problem, step_size=1.0, momentum=0.0, **keys)
    judge = Judge(fleet.problem, Stop(max_rounds=1))
    fleet.core = SecureCore(fleet.method, judge, fleet.problem.start(), fleet.core.settings, time.monotonic())
    fleet.server = ServerShell(fleet.core, counts=fleet.log.append)
    shells = fleet.run()
    noise_D = -fleet.core.replica.z_D
    assert abs(noise_D.std() * np.sqrt(5) / 40.0 - 1) < 6 / np.sqrt(2 * 2000)
    assert all(not shell._core._own.memory_D.any() for shell in shells if shell)


def test_a_server_without_masks_adds_noise_of_its_own_and_all_replicas_hear_it(monkeypatch: Any) -> None:
    """Levels of zeros, sigma 40 of the sum of five: 8 levels in the mean."""
    fleet = Fleet(monkeypatch)
    fleet.problem = Silent(2000)
    keys = {"up": "nearest_int8", "down": "identity", "common_range": 127.0, "level_clip": 500.0}
    fleet.method = sb.make_method("compressed_sgd", fleet.problem, step_size=1.0, momentum=0.0, **keys)
    settings = ServerSettings(num_workers=WORKERS, seed=7, noise=40.0, lease_s=3.0)
    fleet.core = ServerCore(
        fleet.method, Judge(fleet.problem, Stop(max_rounds=1)), fleet.problem.start(), settings, time.monotonic()
    )
    fleet.server = ServerShell(fleet.core)
    fleet.masked = False
    shells = fleet.run()
    noise_D = -fleet.core.replica.z_D
    assert abs(noise_D.std() / 8.0 - 1) < 6 / np.sqrt(2 * 2000)
    assert {digest(shell._core.replica) for shell in shells if shell} == {digest(fleet.core.replica)}


class Silent:
    """A problem whose operators are 0."""

    name, num_workers, unconstrained, constants = "silent", WORKERS, True, None

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def start(self) -> Any:
        return np.zeros(self.dimension)

    def operator(self, worker: int) -> Any:
        return lambda z_D, draws: np.zeros(len(z_D))

    def prox(self, v_D: Any, step_size: float) -> Any:
        return v_D

    def merits(self, z_D: Any) -> dict[str, float]:
        return {"none": 1.0}


def test_what_the_server_is_sent_of_a_worker_does_not_tell_its_levels(monkeypatch: Any) -> None:
    """The same uplink, of zeros only, in two runs: all bytes of the masked vectors differ but by chance."""
    seen = []
    for _ in range(2):
        fleet = Fleet(monkeypatch)
        fleet.problem = sb.make_problem("quadratic", n=20, workers=WORKERS, seed=3)
        vectors: list[bytes] = []

        def keep(worker: int, round_: int, step: Step, data: bytes, vectors: list[bytes] = vectors) -> bytes:
            if (worker, round_, step) == (0, 0, Step.MASKED):
                vectors.append(data)
            return data

        fleet._evil = keep
        fleet.run()
        seen.append(np.frombuffer(vectors[0], np.uint8))
    assert (seen[0] == seen[1]).mean() < 0.2


class Signing(Fleet):
    """Workers that sign their keys; worker 3 with one that the run does not know where it is `posed`."""

    posed = False

    def identity(self, rank: int) -> Identity:
        secrets = [bytes([number + 1]) * 32 for number in range(WORKERS)]
        known = tuple(map(public_of, secrets))
        if not self.posed or rank != 3:
            return Identity(secrets[rank], known)
        return Identity(bytes(32), (*known[:3], public_of(bytes(32)), *known[4:]))


def test_workers_that_sign_their_keys_have_the_bits_of_the_clear_run(monkeypatch: Any) -> None:
    fleet = Signing(monkeypatch)
    fleet.run()
    assert digest(fleet.core.replica) == fleet.in_the_clear()


def test_workers_share_nothing_with_one_whose_keys_are_not_signed_as_they_know(monkeypatch: Any) -> None:
    fleet = Signing(monkeypatch)
    fleet.posed = True
    with pytest.raises(SaddlebagError, match="worker 3's keys are not signed by the key that the run knows"):
        fleet.run()
