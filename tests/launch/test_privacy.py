"""What noise promises: epsilon is dp-accounting's, and nothing less than what it counts on runs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from saddlebag.algorithms.discrete_gaussian import defect
from saddlebag.errors import ConfigError
from saddlebag.launch.drivers.server import _result
from saddlebag.launch.job import Job
from saddlebag.launch.privacy import Privacy, gaussian_epsilon
from saddlebag.launch.recipe.recipe import recipe_from_dict

pytest.importorskip("cryptography", reason="noise needs the extra 'privacy'")


def recipe(method: dict[str, Any] | None = None, **server: Any) -> Any:
    eight = {"name": "nearest_int8"}
    keys = {"name": "compressed_sgd", "step_size": 0.1, "common_range": 1.0, "level_clip": 60.0, "up": eight, "down": eight}
    return recipe_from_dict(
        {
            "workers": 5,
            "problem": {"name": "bilinear", "n": 4, "regularisation": 0.2},
            "method": {**keys, **(method or {})},
            "stop": {"max_rounds": 8},
            "server": {"secure": True, "noise": 2.0, **server},
        }
    )


@pytest.mark.parametrize(("noise", "rounds", "delta"), [(2.0, 1, 1e-5), (2.0, 100, 1e-5), (8.0, 1000, 1e-7)])
def test_epsilon_is_that_of_dp_accounting(noise: float, rounds: int, delta: float) -> None:
    dp_accounting = pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    accountant = pytest.importorskip("dp_accounting.rdp").RdpAccountant()
    for _ in range(rounds):
        accountant.compose(dp_accounting.GaussianDpEvent(noise))
    assert gaussian_epsilon(noise, rounds, delta) == pytest.approx(accountant.get_epsilon(delta), rel=1e-9)
    mu = math.sqrt(rounds) / noise  # and no less than the exact one: Balle, Wang 2018

    def exact_delta(epsilon: float) -> float:
        tail = [0.5 * math.erfc(x / math.sqrt(2)) for x in (epsilon / mu - mu / 2, epsilon / mu + mu / 2)]
        return tail[0] - (math.exp(epsilon) * tail[1] if tail[1] else 0.0)

    assert exact_delta(gaussian_epsilon(noise, rounds, delta)) <= delta


def test_a_run_says_what_it_promises() -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    job = Job.lead(recipe(), "grpc")
    assert job.privacy == Privacy(noise=2.0, delta=1e-5, share=2.0 * 60.0 / math.sqrt(3), numbers=5 * 8)
    masks = job.securing()
    assert masks is not None
    assert masks.noise == job.server_core(0.0).settings.noise == job.privacy.share
    told = _result(job, job.server_core(0.0), {})["privacy"]
    assert told == {"unit": "worker", "epsilon": 0.0, "delta": 1e-5, "noise": 2.0}
    left = 1e-5 - 7 * 40 * defect(job.privacy.share)
    assert job.privacy.epsilon(7) == gaussian_epsilon(2.0, 7, left) >= gaussian_epsilon(2.0, 7, 1e-5)
    assert Job.lead(recipe(noise=0.0), "grpc").privacy is None


def test_t_shares_make_the_noise_that_is_counted_on() -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    for secure in (True, 2, 5):
        privacy = Job.lead(recipe(secure=secure), "grpc").privacy
        assert privacy is not None
        threshold = 3 if secure is True else secure
        assert privacy.share**2 * threshold == pytest.approx((2.0 * 60.0) ** 2)


@pytest.mark.parametrize(
    ("method", "server", "words"),
    [
        ({"level_clip": 0.0}, {}, r"^server.noise needs method.level_clip, which bounds what a worker can change of a sum$"),
        (
            {"level_clip": 1.0},
            {},
            r"^server.noise = 2 is 1.1547 levels for each who draws, and must be 3 or more; take a finer",
        ),
        ({}, {"noise": -1.0}, r"^server.noise must be 0 or more, got -1.0$"),
        ({}, {"delta": 0.0}, r"^server.delta must lie in \(0, 1\), got 0.0$"),
        ({"level_clip": -1.0}, {}, r"level_clip must be 0 or more, and needs common_range, got -1.0$"),
    ],
)
def test_what_promises_nothing_is_refused(method: dict[str, Any], server: dict[str, Any], words: str) -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    with pytest.raises(ConfigError, match=words):
        _ = Job.lead(recipe(method, **server), "grpc").privacy


def test_a_server_that_sees_the_uplinks_adds_all_of_the_noise_and_says_against_whom() -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    job = Job.lead(recipe(secure=False), "grpc")
    assert job.privacy == Privacy(noise=2.0, delta=1e-5, share=120.0, numbers=8, seen_by_server=True)
    assert job.securing() is None
    core = job.server_core(0.0)
    assert core.settings.noise == 120.0
    assert _result(job, core, {})["privacy"]["against"] == "those who see the downlinks"
    masked = Job.lead(recipe(), "grpc").privacy
    assert masked is not None
    assert job.privacy.epsilon(9) == pytest.approx(masked.epsilon(9), rel=1e-9)


@pytest.mark.parametrize(
    "server", [{"mean": "coordinate_median"}, {"quorum": 3}, {"contributions": True}, {"weights": "samples"}]
)
def test_noise_of_the_servers_own_is_for_the_plain_mean(server: dict[str, Any]) -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    with pytest.raises(ConfigError, match=r"server.noise is for the plain mean"):
        Job.lead(recipe(secure=False, **server), "grpc").server_core(0.0)
