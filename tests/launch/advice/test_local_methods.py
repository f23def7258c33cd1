"""Advice on local methods: bytes are those of real messages, seconds add up, and what is recommended follows from them."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Tensor
from saddlebag.errors import ConfigError
from saddlebag.launch.advice import advise, local_methods, measure
from saddlebag.launch.advice.echo import Link
from saddlebag.launch.advice.local_methods import LocalCosts, LocalPrediction, local_costs, periods_of, predict_local, recommend
from saddlebag.launch.advice.model import Costs, Network, judge, predict
from saddlebag.launch.advice.vectors import synthetic
from saddlebag.launch.cli import main
from saddlebag.launch.link.terms import METHODS, Terms

GRPC = Link(up=8e9, down=8e9, latency_s=1e-4, source="measured over loopback")
D = 8192


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call takes a millisecond, and gRPC makes 8 Gbit/s."""

    def timed(call: Any, seconds: float) -> float:
        del seconds
        call()
        return 1e-3

    for module in (advise, local_methods, measure):
        monkeypatch.setattr(module, "timed", timed)
    monkeypatch.setattr(advise, "loopback", lambda: GRPC)
    monkeypatch.setattr(local_methods, "saved_s", lambda arrays: 1e-9 * sum(array.nbytes for array in arrays.values()))


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["advise", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, *capsys.readouterr()


def costs(name: str, d: int = D) -> LocalCosts:
    return local_costs(name, synthetic("gaussian", min(d, D)), d, 2, 0.0)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_measured_is_the_method_of_a_link(name: str) -> None:
    terms = Terms.of(name, 1, [Tensor("sample", (D,))], ())
    linked: Any = terms.lead(terms.recipe(workers=2, seed=0), np.zeros(D)).method
    bench = local_methods._Bench(name, synthetic("gaussian", D), 2)
    assert dataclasses.replace(bench.method, prox=linked.prox) == linked


def test_bytes_are_those_of_messages() -> None:
    full, sparse = costs("diloco"), costs("sparse_loco")
    assert (full.full, sparse.full) == (True, False)
    for size in (full.up_bytes, full.down_bytes):
        assert 4 * D < size < 4 * D + 16, "float32 and a header"
    for size in (sparse.up_bytes, sparse.down_bytes):
        assert 0.1 < 8 * size / D < 0.2, "bits a parameter, headers included"
    assert costs("sparse_loco") == sparse, "the same seed"


def test_beyond_what_is_measured_all_grows_in_proportion() -> None:
    small, large = costs("sparse_loco"), costs("sparse_loco", 10 * D)
    assert large.up_bytes == pytest.approx(10 * small.up_bytes)
    assert large.say_s == pytest.approx(10 * small.say_s)
    assert small.gather_s == pytest.approx(1e-3 / 2)
    assert small.keep_s == pytest.approx(1e-9 * (16 * D + 8 + small.down_bytes)), "z, memory, place and message"
    assert large.keep_s == pytest.approx(10 * small.keep_s)


def test_a_checkpoint_is_written_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    bench = local_methods._Bench("diloco", synthetic("gaussian", 64), 2)
    arrays = bench.state(bench.round(0)[1])
    assert arrays.keys() == {"replica.z_D", "replica.outer_D", "replica.iteration", "server.owed_D", "log"}
    assert 0 < local_methods.saved_s(arrays) < 60


def test_a_worker_alone_is_advised_too() -> None:
    assert local_costs("diloco", synthetic("gaussian", 64), 64, 1, 0.0).down_bytes > 4 * 64


def test_only_methods_of_links_are_measured() -> None:
    with pytest.raises(ConfigError, match=r"a method of links is one of diloco, .*, got 'ogda'"):
        costs("ogda")


def test_every_method_is_shown_with_its_own_period() -> None:
    assert {name: periods_of(name) for name in METHODS} == {
        "diloco": (8, 32, 100),
        "local_average": (8, 10, 32),
        "muloco": (8, 32, 100),
        "sparse_loco": (8, 30, 32),
    }
    assert periods_of("diloco", (5, 2, 5)) == (2, 5)


NETWORK = Network(link=Link(up=8e6, down=16e6, latency_s=0.01, source="given"), workers=2, server_rate=math.inf, transport=GRPC)


def given(method: str, *, full: bool, size: float) -> LocalCosts:
    return LocalCosts(
        method=method,
        full=full,
        up_bytes=size,
        down_bytes=size,
        say_s=0.1,
        gather_s=0.02,
        answer_s=0.03,
        keep_s=0.2,
        take_s=0.04,
    )


def local(method: str, every: int, compute_s: float = 0.0) -> LocalPrediction:
    full = method != "sparse_loco"
    return predict_local(given(method, full=full, size=1e6 if full else 1e4), every, NETWORK, compute_s)


def every_step(name: str, size: float, compute_s: float, error: float = 1.0) -> Any:
    parts = {"compress_s": 0.001, "apply_s": 0.001, "gather_s": 0.001}
    made = Costs(name=name, parameters={}, kind="contractive", message_bytes=size, error=error, **parts)
    return predict(made, NETWORK, compute_s)


def test_a_gradient_is_a_step_and_its_share_of_an_exchange() -> None:
    row = local("diloco", 10, compute_s=2.0)
    assert (row.up_s, row.down_s) == (pytest.approx(1.01), pytest.approx(0.51))
    assert row.exchange_s == pytest.approx(0.1 + 1.01 + (2 * 0.02 + 0.03) + 0.2 + 0.51 + 0.04)
    assert row.gradient_s == pytest.approx(2.0 + 1.93 / 10), "nothing overlaps"
    assert (row.up_bytes, row.down_bytes) == (1e5, 1e5)


def rows_of(compute_s: float) -> list[LocalPrediction]:
    return [local(name, every, compute_s) for name in ("diloco", "local_average", "sparse_loco") for every in (8, 32)]


@pytest.mark.parametrize(
    ("compute_s", "chosen"),
    [
        (0.0, ("sparse_loco", 32)),  # exchanges are all there is
        (0.5, ("diloco", 32)),  # 0.560 s against 0.514
        (3.0, ("diloco", 8)),  # 3.24 s against 3.014
        (60.0, ("dense", 1)),
    ],
)
def test_the_mildest_within_a_tenth_of_the_fastest_is_recommended(compute_s: float, chosen: tuple[str, int]) -> None:
    verdict = judge(every_step("identity", 1e6, compute_s), [])
    found = recommend(verdict, rows_of(compute_s))
    assert (found.name, found.every) == chosen
    assert ("the loss is not predicted" in found.reason) == (found.every > 1)


def test_a_gentle_compressor_every_step_comes_before_local_steps() -> None:
    verdict = judge(every_step("identity", 1e6, 3.0), [every_step("block_int8", 1e5, 3.0, error=0.01)])
    found = recommend(verdict, rows_of(3.0))
    assert (found.name, found.every) == ("block_int8", 1)
    assert "how many more rounds its error costs is not predicted" in found.reason


def test_the_answer_shows_local_methods(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--d", D, "--bandwidth", "1M", "--latency", "5ms", "--only", "top_k", "--workers", 2, "--every", 4]
    status, printed, noted = ask(capsys, *asked, "--method", "diloco", "--method", "sparse_loco", "--compute", "10ms")
    assert status == 0
    assert "measuring sparse_loco" in noted
    assert "measuring muloco" not in noted
    lines = [line.split() for line in printed.splitlines()]
    shown = {line[0]: line for line in lines if line and line[0] in ("diloco", "sparse_loco") and len(line) > 8}
    assert shown["diloco"][1:6] == ["4", "8.19", "kB", "8.19", "kB"]
    assert "docs/thin_links.md" in printed.splitlines()[-1]
    assert "the time of a step is unknown" not in printed


def test_a_step_that_nobody_has_timed_is_said_to_be_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    _, printed, _ = ask(capsys, "--d", 1000, "--bandwidth", "1M", "--only", "top_k", "--method", "diloco")
    assert "the time of a step is unknown (--compute)" in printed


def test_local_methods_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--d", D, "--bandwidth", "8M", "--only", "top_k", "--compute", "1s", "--json"]
    status, printed, noted = ask(capsys, *asked)
    assert (status, noted) == (0, "")
    values = json.loads(printed)
    rows = values["local"]
    assert {each["costs"]["method"] for each in rows} == set(METHODS)
    assert [each["gradient_s"] for each in rows] == sorted(each["gradient_s"] for each in rows)
    for each in rows:
        stages = sum(each[stage] for stage in ("say_s", "up_s", "server_s", "keep_s", "down_s", "take_s"))
        assert each["exchange_s"] == pytest.approx(stages)
        assert each["gradient_s"] == pytest.approx(1.0 + stages / each["every"])
        assert each["up_bytes"] == pytest.approx(each["costs"]["up_bytes"] / each["every"])
    dense = next(each for each in values["rounds"] if each["costs"]["name"] == "identity")
    assert rows[0]["speedup"] == pytest.approx(dense["total_s"] / rows[0]["gradient_s"])
    assert values["recommended"].keys() == {"name", "every", "reason"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "dilocco"], "--method must be one of diloco, local_average, muloco, sparse_loco, got 'dilocco'"),
        (["--every", "0"], "--every"),
    ],
)
def test_refusals_cost_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, printed, error = ask(capsys, "--d", 10, "--bandwidth", "1G", *arguments)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert message in error
