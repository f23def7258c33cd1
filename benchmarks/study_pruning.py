"""Networks that grow thin while they are trained, on pictures: accuracy by sparsity, and bytes.

    python benchmarks/study_pruning.py PATH            # PATH: MNIST's folder; ten minutes of one core
    python benchmarks/study_pruning.py PATH --only game

"game": `pruning_game` under `active_set` by its price, beside the same network trained dense and as compressed, and beside
magnitude pruning and iterative magnitude pruning of neurons and weights to the same sparsity, in as many steps on as many
samples (plain torch, AdamW, cosine in each phase).

"masks": `masked_network` under `mask_average`, beside a network with weights of its own under `local_average` with signs and
with grids, in as many rounds of as many local steps. Bits are those of a worker both ways, for each weight.

"bilevel": `bilevel_pruning` of the small network of `digits_cnn` at three sparsities, beside iterative magnitude pruning, a
fifth of the weights at a time with `--cycle` steps between cuts, and a single cut. Steps and time count.

Errors are on all pictures that judge.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

import saddlebag as sb
from saddlebag.algorithms.networks.images.convolutional import SHAPES, convolutional
from saddlebag.algorithms.networks.pruning.perceptron import Perceptron
from saddlebag.launch.data.images import read_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from saddlebag.algorithms.networks.images.pictures import Images

WORKERS, BATCH = 2, 64
GRID = {"name": "grid", "step": 0.25, "block": 128}


def halves(data: Images) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures and labels to train on, and all those that judge."""
    count = len(data.labels_N)
    held_N = np.arange(count) >= count - data.held_out if data.held_out else np.isin(np.arange(count), data.divide()[0])
    x, y = torch.from_numpy(data.images_NHW.astype(np.float32)), torch.from_numpy(data.labels_N)
    return x[~held_N], y[~held_N], x[held_N], y[held_N]


def error_of(scores: Callable[[torch.Tensor], torch.Tensor], data: Images) -> float:
    """In per cent."""
    *_, x, y = halves(data)
    with torch.no_grad():
        return 100.0 * float((scores(x).argmax(1) != y).double().mean())


def game(data: Images, args: argparse.Namespace, seed: int, price: float) -> dict[str, float]:
    """Error, sparsity, MB of a worker both ways, seconds; `price` 0 with nobody leaving is the dense network."""
    problem: Any = sb.make_problem(
        "pruning_game", data=data, workers=WORKERS, hidden=args.hidden, price=price, batch_size=BATCH, seed=seed
    )
    rule = {"warmup": 10, "total": args.steps, "schedule": "cosine"}
    ways: dict[str, Any] = {"up": GRID, "down": GRID, "step_size": args.step_size}
    if price:
        method = sb.make_method("active_set", problem, of={"name": "compressed_adamw", **rule}, **ways)
    else:
        method = sb.make_method("compressed_adamw", problem, **rule, **ways)
    begin = time.perf_counter()
    run = sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_iterations=args.steps, every=args.steps))
    took = time.perf_counter() - begin
    players = problem.module(run.z)
    error = error_of(lambda x: problem.evaluate.scores(players, x), data)
    megabytes = (run.up_bytes + run.down_bytes) / WORKERS / 1e6
    return {"error": error, "sparsity": 100 * run.merits["sparsity"], "MB": megabytes, "seconds": took}


def magnitude(data: Images, args: argparse.Namespace, seed: int, sparsity: float, *, phases: int, neurons: bool) -> float:
    """Error of a network whose smallest weights, or weakest neurons, are taken away after each phase but the last."""
    x, y, *_ = halves(data)
    widths = (x[0].numel(), *args.hidden, int(y.max()) + 1)
    network, generator = Perceptron(widths, seed=seed), torch.Generator().manual_seed(seed)
    masks = [torch.ones_like(layer.weight) for layer in network.layers]
    for phase in range(phases):
        steps = args.steps // phases
        optimizer = torch.optim.AdamW(network.parameters(), lr=args.step_size, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (WORKERS * BATCH,), generator=generator)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(x[rows]), y[rows]))
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for layer, mask in zip(network.layers, masks, strict=True):
                    layer.weight *= mask
        if phase < phases - 1:
            goal = 1.0 - (1.0 - sparsity) ** ((phase + 1) / (phases - 1))
            cut = _fewer_neurons if neurons else _fewer_weights
            cut(network, masks, goal)
    return error_of(network, data)


@torch.no_grad()
def _fewer_weights(network: Perceptron, masks: list[torch.Tensor], goal: float) -> None:
    size = torch.cat([layer.weight.abs().flatten() for layer in network.layers])
    least = size.kthvalue(max(1, int(goal * len(size)))).values
    for layer, mask in zip(network.layers, masks, strict=True):
        mask *= (layer.weight.abs() > least).float()
        layer.weight *= mask


@torch.no_grad()
def _fewer_neurons(network: Perceptron, masks: list[torch.Tensor], goal: float) -> None:
    """The weakest |incoming| |outgoing| leave until the share of weights between those that stay is small enough."""
    pairs = list(itertools.pairwise(network.layers))
    strength = []
    for i, (a, b) in enumerate(pairs):
        size_N = a.weight.norm(dim=1) * b.weight.norm(dim=0)
        strength += [(i, j, float(size / size_N.mean())) for j, size in enumerate(size_N)]  # layers are alike in the mean
    widths = [network.layers[0].in_features, *(layer.out_features for layer in network.layers)]
    left, total = list(widths), sum(a * b for a, b in itertools.pairwise(widths))
    for i, j, _ in sorted(strength, key=lambda each: each[2]):
        if sum(a * b for a, b in itertools.pairwise(left)) <= (1.0 - goal) * total:
            break
        if left[i + 1] == 1:
            continue
        left[i + 1] -= 1
        masks[i][j] = 0.0
        masks[i + 1][:, j] = 0.0
    for layer, mask in zip(network.layers, masks, strict=True):
        layer.weight *= mask


def of_game(data: Images, args: argparse.Namespace) -> None:
    dense = [game(data, args, seed, 0.0) for seed in range(args.seeds)]
    print(f"dense, compressed: error {_spread([each['error'] for each in dense])} %, {dense[0]['MB']:.2f} MB a worker")
    rivals = ("magnitude, neurons", "IMP, neurons", "magnitude, weights", "IMP, weights")
    print("| " + " | ".join(("price", "sparsity", "MB a worker", "of dense", "game", *rivals)) + " |\n" + "|---" * 9 + "|")
    for price in args.prices:
        runs = [game(data, args, seed, price) for seed in range(args.seeds)]
        cells = [f"{price:g}", f"{statistics.mean(each['sparsity'] for each in runs):.1f} %"]
        mb = statistics.mean(each["MB"] for each in runs)
        cells += [f"{mb:.2f}", f"{mb / dense[0]['MB']:.2f}", _spread([each["error"] for each in runs])]
        for neurons, phases in itertools.product((True, False), (2, 5)):
            ways: dict[str, Any] = {"phases": phases, "neurons": neurons}
            errors = [magnitude(data, args, seed, each["sparsity"] / 100, **ways) for seed, each in enumerate(runs)]
            cells.append(_spread(errors))
        print("| " + " | ".join(cells) + " |", flush=True)


def of_masks(data: Images, args: argparse.Namespace) -> None:
    fine, coarse = {"name": "grid", "step": 0.25, "block": 128}, {"name": "grid", "block": 128}
    walk = {"local_steps": 10, "local_rule": "adamw", "local_step_size": args.step_size}
    ways: dict[str, tuple[str, str, dict[str, Any]]] = {
        "masks": ("masked_network", "mask_average", {}),
        "signs": ("pruning_game", "local_average", {"up": {"name": "scaled_sign"}, "down": {"name": "scaled_sign"}, **walk}),
        "grid, step 1": ("pruning_game", "local_average", {"up": coarse, "down": coarse, **walk}),
        "grid, step 0.25": ("pruning_game", "local_average", {"up": fine, "down": fine, **walk}),
    }
    points = sorted({max(1, args.rounds // 6), max(1, args.rounds // 2), args.rounds})
    heads = [f"{what} at {rounds}" for rounds in points for what in ("error", "bits a weight")]
    print("| | " + " | ".join(heads) + " |\n" + "|---" * (1 + len(heads)) + "|")
    for label, (problem_name, method_name, keys) in ways.items():
        cells = [label]
        for rounds in points:
            runs = [_mask_run(data, args, seed, problem_name, method_name, keys, rounds) for seed in range(args.seeds)]
            cells += [_spread([error for error, _ in runs]), f"{statistics.mean(bits for _, bits in runs):.1f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def _mask_run(
    data: Images, args: argparse.Namespace, seed: int, problem_name: str, method_name: str, keys: dict[str, Any], rounds: int
) -> tuple[float, float]:
    """Error in per cent, and bits of a worker both ways for each weight."""
    more: dict[str, Any] = {"price": 0.0, "speed": 1e-9} if problem_name == "pruning_game" else {}  # everybody stays, for good
    ways: dict[str, Any] = {"hidden": args.hidden, "batch_size": BATCH, "seed": seed}
    problem: Any = sb.make_problem(problem_name, data=data, workers=WORKERS, **ways, **more)
    method = sb.make_method(method_name, problem, **keys)
    run = sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_iterations=rounds, every=rounds))
    players = problem.module(run.z)
    error = error_of(lambda x: problem.evaluate.scores(players, x), data)
    return error, 8.0 * (run.up_bytes + run.down_bytes) / WORKERS / problem.dimension


def of_bilevel(data: Images, args: argparse.Namespace) -> None:
    print("| sparsity | bi-level | steps | s | MB a worker | IMP | steps | s | cut once | dense |\n" + "|---" * 10 + "|")
    cut_s = 0.8
    for sparsity in (0.8, 0.9, 0.95):
        cuts = max(1, round(np.log(1.0 - sparsity) / np.log(cut_s)))
        both = [_bilevel(data, args, seed, sparsity) for seed in range(args.seeds)]
        rivals = [_iterative(data, args, seed, sparsity, cuts) for seed in range(args.seeds)]
        once = [_iterative(data, args, seed, sparsity, 1, args.cycle * 2) for seed in range(args.seeds)]
        dense = [_iterative(data, args, seed, 0.0, 0, args.cycle * 4) for seed in range(args.seeds)]
        cells = [f"{sparsity:g}", _spread([each["error"] for each in both]), f"{4 * args.cycle}"]
        cells += [f"{statistics.mean(each['seconds'] for each in both):.0f}", f"{both[0]['MB']:.2f}"]
        cells += [_spread([each["error"] for each in rivals]), f"{(cuts + 1) * args.cycle}"]
        cells += [f"{statistics.mean(each['seconds'] for each in rivals):.0f}"]
        cells += [_spread([each["error"] for each in once]), _spread([each["error"] for each in dense])]
        print("| " + " | ".join(cells) + " |", flush=True)


def _bilevel(data: Images, args: argparse.Namespace, seed: int, sparsity: float) -> dict[str, float]:
    problem: Any = sb.make_problem("digits_cnn", data=data, workers=WORKERS, size="tiny", attack="none", seed=seed)
    steps = 4 * args.cycle
    of = {"name": "compressed_adamw", "warmup": 10, "total": steps, "schedule": "cosine"}
    keys: dict[str, Any] = {"of": of, "step_size": args.step_size, "up": GRID, "down": GRID}
    method = sb.make_method("bilevel_pruning", problem, sparsity=sparsity, dense=2 * args.cycle, every=9, **keys)
    begin = time.perf_counter()
    run = sb.simulate(problem, method, seed=seed, stop=sb.Stop(max_iterations=steps, every=steps))
    took = time.perf_counter() - begin
    error = error_of(problem.module(run.z)["model"], data)
    return {"error": error, "seconds": took, "MB": (run.up_bytes + run.down_bytes) / WORKERS / 1e6}


def _iterative(
    data: Images, args: argparse.Namespace, seed: int, sparsity: float, cuts: int, each: int = 0
) -> dict[str, float]:
    """Train, cut the smallest weights, train on, in plain torch; `each` steps before, between and after cuts."""
    x, y, *_ = halves(data)
    network = convolutional(x.shape[1], x.shape[2], shape=SHAPES["tiny"], seed=seed)
    parameters, generator = list(network.parameters()), torch.Generator().manual_seed(seed)
    masks = [torch.ones_like(parameter) for parameter in parameters]
    begin = time.perf_counter()
    for phase in range(cuts + 1):
        steps = each or args.cycle
        optimizer = torch.optim.AdamW(parameters, lr=args.step_size, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (WORKERS * BATCH,), generator=generator)
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(x[rows]), y[rows]))
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for parameter, mask in zip(parameters, masks, strict=True):
                    parameter.mul_(mask)
        if phase < cuts:
            size = torch.cat([parameter.detach().abs().flatten() for parameter in parameters])
            goal = 1.0 - (1.0 - sparsity) ** ((phase + 1) / cuts)
            least = size.kthvalue(max(1, int(goal * len(size)))).values
            with torch.no_grad():
                for parameter, mask in zip(parameters, masks, strict=True):
                    mask.mul_((parameter.abs() > least).float())
                    parameter.mul_(mask)
    return {"error": error_of(network, data), "seconds": time.perf_counter() - begin}


def _spread(values: list[float]) -> str:
    """The mean, and how far it reaches."""
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else f"{values[0]:.2f}"


STUDIES: dict[str, Callable[[Images, argparse.Namespace], None]] = {"game": of_game, "masks": of_masks, "bilevel": of_bilevel}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="MNIST's folder, or 'digits'")
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--hidden", type=int, nargs="+", default=[300, 100])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--step-size", type=float, default=3e-3)
    parser.add_argument("--prices", type=float, nargs="+", default=[1.0, 3.0, 6.0])
    parser.add_argument("--rounds", type=int, default=60, help="of masks")
    parser.add_argument(
        "--cycle", type=int, default=150, help="steps between cuts of iterative pruning; bi-level has four times"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    if args.smoke:
        args.hidden, args.steps, args.prices, args.rounds, args.seeds, args.cycle = [8, 8], 20, [3.0], 2, 1, 4
    torch.set_num_threads(1)
    data = read_images(args.data)
    for name in args.only:
        STUDIES[name](data, args)


if __name__ == "__main__":
    main()
