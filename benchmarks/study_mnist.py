"""MNIST against perturbations of eps = 0.3: the recipe `mnist_cnn`, uncompressed and compressed; accuracies and bytes.

    python benchmarks/study_mnist.py PATH/mnist --out DIR                  # trains, judges by PGD-40 on all test pictures
    python benchmarks/study_mnist.py PATH/mnist --out DIR --judge 500      # AutoAttack of another library on the first 500

PATH/mnist is the folder with the four idx files. Training takes about a quarter of an hour a run on one core; weights and
figures lie in DIR, and a run that is there is not trained again. The second form needs the package
adversarial-robustness-toolbox (and multiprocess): of AutoAttack (Croce, Hein 2020) APGD on the cross-entropy and on the ratio
of logits, two starts of 100 steps each, and 1,000 steps of the square attack, which needs no gradients.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from saddlebag.algorithms import simulate
from saddlebag.launch.build import build_method, build_problem, resolve
from saddlebag.launch.recipe.recipe import load_recipe
from saddlebag.proto.codec import LoopbackWire

if TYPE_CHECKING:
    from saddlebag.launch.recipe.recipe import Recipe

RECIPE = Path(__file__).parents[1] / "saddlebag" / "recipes" / "mnist_cnn.toml"
RUNS: dict[str, tuple[str, ...]] = {
    "uncompressed": ('method.up={name="identity"}', 'method.down={name="identity"}'),
    "compressed": (),
}
JUDGED = 10_000


def recipe_of(name: str, seed: int, data: Path, sets: list[str]) -> Recipe:
    """The recipe of a run, which judges at the end only."""
    base = [f"data.source={data}", f"problem.judged={JUDGED}", f"seed={seed}", f"problem.seed={seed}"]
    recipe = load_recipe(RECIPE, [*base, *RUNS[name], *sets])
    return load_recipe(RECIPE, [*base, *RUNS[name], *sets, f"stop.every={recipe.stop.max_iterations}"])


def train(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, unless that was done; the figures of the run."""
    stem = arguments.out / f"{name}-{seed}"
    kept = stem.with_suffix(".json")
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    recipe = recipe_of(name, seed, arguments.data, arguments.sets)
    problem: Any = build_problem(recipe)
    begin = time.process_time()
    run = simulate(problem, build_method(resolve(recipe, problem), problem), seed=seed, stop=recipe.stop, wire=LoopbackWire())
    seconds = time.process_time() - begin
    merits = dict(run.history[-1].merits)
    row = {"name": name, "seed": seed, "rounds": run.rounds, "dimension": problem.dimension, "cpu_s": seconds}
    row |= {"clean": 1 - merits["clean_error"], "robust": 1 - merits["robust_error"]}
    row |= {"up": run.up_bytes / recipe.workers, "down": run.down_bytes / recipe.workers}
    save_file(problem.module(run.replica.z_D)["model"].state_dict(), stem.with_suffix(".safetensors"))
    kept.write_text(json.dumps(row), encoding="utf-8")
    return row


def judge(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Accuracy under AutoAttack's attacks of another library, and under our PGD-40, on the same pictures."""
    recipe = recipe_of(name, seed, arguments.data, [*arguments.sets, f"problem.judged={arguments.judge}"])
    problem: Any = build_problem(recipe)
    model, images = problem.module(problem.start())["model"], problem.judge.images
    model.load_state_dict(load_file(arguments.out / f"{name}-{seed}.safetensors"))
    model.eval()
    x, y = images.images_NHW.astype(np.float32)[:, None], images.labels_N
    seen = torch.nn.Sequential(torch.nn.Flatten(1, 2), model)
    worst = attacked(seen, x, y, problem.judge.ball.eps)
    with torch.no_grad():
        clean, found = (float((seen(torch.from_numpy(points)).argmax(1).numpy() == y).mean()) for points in (x, worst))
    ours = 1 - problem.judge({"model": model})["robust_error"]
    return {"name": name, "seed": seed, "pictures": len(y), "clean": clean, "pgd40": ours, "autoattack": found}


def attacked(model: torch.nn.Module, x: Any, y: Any, eps: float) -> Any:
    """Pictures (N, 1, H, W) after the attacks, each of which sees those that are still told right."""
    from art.attacks.evasion import AutoAttack, AutoProjectedGradientDescent, SquareAttack
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), x.shape[1:], 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    np.random.seed(0)  # the library draws from it
    ball: dict[str, Any] = {"norm": np.inf, "eps": eps, "batch_size": 250, "verbose": False}
    descents = [
        AutoProjectedGradientDescent(classifier, eps_step=eps / 4, max_iter=100, nb_random_init=2, loss_type=loss, **ball)
        for loss in ("cross_entropy", "difference_logits_ratio")
    ]
    square = SquareAttack(classifier, max_iter=1000, nb_restarts=1, **ball)
    attacks = [*descents, square]
    worst = AutoAttack(classifier, norm=np.inf, eps=eps, eps_step=eps / 4, attacks=attacks, batch_size=250).generate(x, y)
    assert np.abs(worst - x).max() <= eps + 1e-5
    assert 0 <= worst.min() <= worst.max() <= 1
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--judge", type=int, default=0, metavar="PICTURES", help="by AutoAttack, after training")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key of every run"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    heading = False
    for seed in range(arguments.seeds):
        for name in RUNS:
            row = train(name, seed, arguments)
            if arguments.judge:
                row = judge(name, seed, arguments)
            if not heading:
                print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
                heading = True
            cells = (f"{value:.4f}" if isinstance(value, float) and value <= 1 else value for value in row.values())
            print(f"| {' | '.join(f'{cell:,.0f}' if isinstance(cell, float) else str(cell) for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
