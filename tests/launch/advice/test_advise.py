"""What is measured reaches the prediction; the decision itself is tested in `test_advice.py` with fixed numbers."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import Natural, TopK
from saddlebag.errors import ConfigError
from saddlebag.launch.advice import advise, local_methods, measure
from saddlebag.launch.advice.echo import Link
from saddlebag.launch.advice.vectors import synthetic
from saddlebag.launch.build import build_problem, resolve
from saddlebag.launch.cli import main
from saddlebag.launch.recipe.recipe import recipe_from_dict

GRPC = Link(up=8e9, down=8e9, latency_s=1e-4, source="measured over loopback")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call takes a millisecond, and gRPC makes 8 Gbit/s."""

    def timed(call: Any, seconds: float) -> float:
        del seconds
        call()
        return 1e-3

    monkeypatch.setattr(advise, "timed", timed)
    monkeypatch.setattr(local_methods, "timed", timed)
    monkeypatch.setattr(measure, "timed", timed)
    monkeypatch.setattr(advise, "loopback", lambda: GRPC)


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["advise", *map(str, arguments)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, *capsys.readouterr()


def test_costs_beyond_what_is_measured_grow_in_proportion() -> None:
    x_D = synthetic("gaussian", 1000)
    small = advise.costs_of("natural", {}, Natural(), advise.Question(d=1000), x_D)
    large = advise.costs_of("natural", {}, Natural(), advise.Question(d=10_000), x_D)
    assert (small.compress_s, small.apply_s) == (2e-3, 1e-3)
    assert small.gather_s == pytest.approx(1e-3 / 8)
    assert large.compress_s == pytest.approx(2e-2)
    assert large.message_bytes == pytest.approx(10 * small.message_bytes)
    same_k = advise.costs_of("top_k", {"k": 10}, TopK(k=10), advise.Question(d=10_000), x_D)
    assert 40 < same_k.message_bytes < 80, "ten coordinates stay ten"


def test_a_slow_link_is_compressed(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, noted = ask(
        capsys, "--d", 100_000, "--bandwidth", "1M", "--latency", "5ms", "--only", "top_k", "--only", "natural"
    )
    assert status == 0
    assert "link (as given): 1 Mbit/s up, 1 Mbit/s down, 5 ms" in printed
    assert "compress: top_k makes a round" in printed
    assert [" ".join(line.split()) for line in printed.splitlines() if line.startswith("fastest")] == [
        'fastest unbiased one: up = {name = "natural"}',
        'fastest contractive one: up = {name = "top_k", fraction = 0.01}',
        "fastest with an error below 2 %: none is faster than dense",
    ]
    assert "measuring top_k" in noted


def test_a_fast_link_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = ask(
        capsys, "--d", 10_000, "--link", "loopback", "--workers", 1, "--only", "natural", "--compute", "1s"
    )
    assert status == 0
    assert "link (measured over loopback): 8 Gbit/s up" in printed
    assert "do not compress: " in printed
    assert "fastest unbiased" not in printed


def test_everything_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, noted = ask(
        capsys, "--d", 1000, "--bandwidth", "8M", "--dtype", "float64", "--server-bandwidth", "16M", "--json"
    )
    assert (status, noted) == (0, "")
    values = json.loads(printed)
    assert (values["d"], values["dtype"], values["workers"], values["server_rate"]) == (1000, "float64", 8, 16e6)
    assert values["link"] == {"up": 8e6, "down": 8e6, "latency_s": 1e-4, "source": "as given"}
    rounds = {each["costs"]["name"]: each for each in values["rounds"]}
    dense = rounds["identity"]
    assert dense["costs"]["message_bytes"] == pytest.approx(8001, abs=8)
    assert dense["up_s"] == pytest.approx(1e-4 + 8 * 8 * dense["costs"]["message_bytes"] / 16e6), "the server's link decides"
    assert {"top_k", "rand_k", "natural", "low_rank"} <= rounds.keys()
    assert not {"budget", "decay", "schedule"} & rounds.keys()
    totals = [each["total_s"] for each in values["rounds"]]
    assert totals == sorted(totals)
    assert np.allclose([dense["total_s"] / total for total in totals], [each["speedup"] for each in values["rounds"]])
    stages = ("compute_s", "compress_s", "up_s", "server_s", "down_s", "apply_s")
    assert dense["total_s"] == pytest.approx(sum(dense[stage] for stage in stages))


def test_what_does_not_fit_is_left_out_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    _, printed, _ = ask(capsys, "--d", 4, "--bandwidth", "8M", "--only", "low_rank", "--only", "natural")
    assert "left out low_rank: low_rank needs rank <= min(rows, columns), got rank=4 for d=4" in printed


def test_a_compressor_that_sends_all_or_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, printed, _ = ask(capsys, "--d", 1000, "--bandwidth", "8M", "--only", "bernoulli", "--only", "perm_k", "--workers", 3)
    assert "left out bernoulli: its messages vary from " in printed
    assert "workers=3" in printed, "perm_k deals its coordinates to the workers there are"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--d'"),
        (["--d", "10"], "give either --bandwidth (such as 100M) or --link"),
        (["--d", "10", "--bandwidth", "1G", "--link", "loopback"], "give either --bandwidth"),
        (["--d", "10", "--bandwidth", "fast"], "--bandwidth must be a positive rate such as 100M"),
        (["--d", "10", "--bandwidth", "0"], "--bandwidth must be a positive rate"),
        (["--d", "10", "--bandwidth", "1G", "--latency", "1 week"], "--latency must be a time such as 1ms"),
        (["--d", "10", "--bandwidth", "1G", "--only", "topk"], "--only 'topk' is no known compressor; did you mean 'top_k'?"),
    ],
)
def test_refusals_cost_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, printed, error = ask(capsys, *arguments)
    assert (status, printed, error.count("\n")) == (2, "", 1)
    assert message in error


def test_the_network_needs_numbers_from_somewhere() -> None:
    question = advise.Question(d=10)
    with pytest.raises(ConfigError, match="give either"):
        advise.network_of(question, link=None, bandwidth=None, latency_s=None, server_rate=None)
    measured = advise.network_of(question, link="loopback", bandwidth=None, latency_s=0.5, server_rate=None)
    assert (measured.link.up, measured.link.latency_s) == (8e9, 0.5)


DOCS = Path(__file__).parents[3] / "docs" / "advise.md"


@pytest.mark.parametrize("line", [line.strip() for line in DOCS.read_text().splitlines() if line.startswith("    up = {")])
def test_the_recipes_of_the_documentation_fit_a_method(line: str) -> None:
    up = tomllib.loads(line)["up"]
    name = "masha2" if up.get("of") == "top_k" else "masha1"
    method = {"name": name, "step_size": 0.1, "probability": 0.5, "up": up}
    table = {"workers": 2, "problem": {"name": "bilinear", "n": 5}, "method": method, "stop": {"merit": 1e-3}}
    recipe = recipe_from_dict(table)
    assert resolve(recipe, build_problem(recipe)).method.up is not None
