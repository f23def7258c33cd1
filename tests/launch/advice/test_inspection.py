from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from saddlebag.errors import ConfigError
from saddlebag.launch.advice.entropy import log2_binomial
from saddlebag.launch.advice.inspection import parameters
from saddlebag.launch.cli import cli


def inspect(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["inspect", "compressor", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_report_has_the_constants_sizes_and_speeds() -> None:
    report = json.loads(inspect("top_k", "--d", 5000, "--k", 0.01, "--json"))
    assert (report["d"], report["parameters"], report["alpha"]) == (5000, {"fraction": 0.01}, 0.01)
    assert report["alpha"] < report["alpha_here"] < 1
    assert report["alpha_here"] == 1 - report["error2"]
    assert report["bits_per_coordinate"] == 8 * report["encoded_bytes"] / 5000
    assert report["entropy_bytes"] <= report["encoded_bytes"] <= 1.6 * report["model_bytes"] + 40
    assert "omega" not in report
    report = json.loads(inspect("rand_k", "--d", 5000, "--k", 50, "--vector", "heavy", "--draws", 200, "--json"))
    assert report["parameters"] == {"k": 50}
    assert report["omega"] == pytest.approx(99)
    assert report["omega_here"] == pytest.approx(99, rel=0.6), "heavy tails: the mean over 200 draws still varies"
    assert "unbiased" in inspect("natural", "--d", 100)


def test_people_read_lines(tmp_path: Path) -> None:
    printed = inspect("top_k", "--d", 5000, "--plot", tmp_path / "p.png")
    assert "top_k (fraction=0.01) on a gaussian vector, d = 5,000" in printed
    assert "0.01 proven for every vector" in printed
    assert f"of log2 C(d, k) / k = {log2_binomial(5000, 50) / 50:.4g}" in printed
    assert (tmp_path / "p.png").exists()


def test_a_tensor_of_a_file(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 3), np.float32)}, tmp_path / "g.safetensors")
    report = json.loads(inspect("identity", "--from", tmp_path / "g.safetensors", "--json"))
    assert (report["d"], report["encoded_bytes"], report["error2"]) == (6, 25, 0)


def test_parameters_of_a_command_line() -> None:
    assert parameters("top_k", 0.5, []) == {"fraction": 0.5}
    assert parameters("top_k", 1.0, []) == {"k": 1}
    assert parameters("rand_k", 0.5, ["support=common"]) == {"fraction": 0.5, "support": "common"}
    assert parameters("low_rank", None, []) == {"rank": 4}
    assert parameters("low_rank", None, ["rank=2"]) == {"rank": 2}
    for kept in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="--k must be a fraction in"):
            parameters("top_k", kept, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["topk"], "compressor 'topk' is no known compressor; did you mean 'top_k'?"),
        (["natural", "--k", "0.1"], "natural.fraction is no known key"),
        (["top_k", "--set", "k"], "--set needs key.path=value, got 'k'"),
        (["top_k", "--set", "k=two"], "top_k.k must be a whole number, got 'two'"),
        (["top_k", "--d", "10", "--k", "11"], "top_k needs 1 <= k <= d, got k=11 for d=10"),
        (["top_k", "--d", "0"], "'0' must be a whole number of at least 1"),
        (["top_k", "--from", "gone.safetensors"], "gone.safetensors cannot be read"),
    ],
)
def test_refusals_cost_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    from saddlebag.launch.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(["inspect", "compressor", *arguments])
    printed, error = capsys.readouterr()
    assert (exit_.value.code, printed, error.count("\n")) == (2, "", 1)
    assert message in error


def test_the_options_are_known_without_the_work() -> None:
    """Help imports neither numpy nor matplotlib."""
    import subprocess
    import sys

    code = (
        "import sys; from saddlebag.launch.cli import cli\n"
        "assert not {'numpy', 'matplotlib', 'rich', 'grpc', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
