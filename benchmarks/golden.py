"""Golden digests: what every recipe computes and sends in its first rounds, to be compared before and after a change.

    python benchmarks/golden.py --data-dir PATH --write before.json
    ... change, rebuild ...
    python benchmarks/golden.py --data-dir PATH --compare before.json

Each recipe of launch/recipes, and one that names the methods and compressors they leave out, runs through the command line,
in one process, for a bounded number of rounds. Of all its methods the digest of the replica, the bytes in both directions,
the rounds and the reason of the end are kept; of groupwise recipes a digest of all they write but times. Without --data-dir
the recipes that need a file are left out. --driver grpc runs a few through a server and a process for each worker: they must
end on the digests of the simulation. About 85 s on one core with all data.

The digests depend on the machine's arithmetic (its BLAS, its processor): compare on one machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "launch" / "recipes"
TIMES = {"elapsed_s", "rounds_per_s", "seconds", "time_s", "rounds_per_second"}  # what a result says of the machine's speed
KEPT = ("reason", "rounds", "iterations", "up_bytes", "down_bytes", "digest")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # sums depend on their number


@dataclasses.dataclass(frozen=True)
class Case:
    """A recipe's run: rounds, keys that make it small, and the file it needs.

    Attributes:
        recipe: The recipe's name.
        rounds: Where the run ends; None for a groupwise study, which takes all its rows.
        sets: Further keys.
        data: The file or folder under --data-dir.
        lines: How many lines of each file are taken; 0 takes the file as it is.
    """

    recipe: str
    rounds: int | None = 12
    sets: tuple[str, ...] = ()
    data: str = ""
    lines: int = 0


# Methods and compressors that no recipe names: a bilinear game with a baseline for each, method, up, down.
RAND, NATURAL, TOP, GRID = 'name="rand_k",fraction=0.25', 'name="natural"', 'name="top_k",fraction=0.25', 'name="grid",step=0.5'
EVERY = (
    *((name, RAND, NATURAL) for name in ("qoda", "qsgda", "diana_sgda", "masha1", "optimistic_masha", "vr_diana_sgda")),
    *((f"compressed_{name}", TOP, GRID) for name in ("sgd", "adamw", "extra_adam", "lamb", "optimistic_adam", "extragradient")),
    *((name, TOP, GRID) for name in ("masha2", "extragradient_feedback")),
    ("three_pillars", RAND, ""),
    *((name, "", "") for name in ("forward_backward_forward", "local_sgda")),
    *(
        ("innovations", up, up)
        for up in (
            *(f'name="{name}"' for name in ("nearest_int4", "nearest_int8", "scaled_sign", "cast")),
            'name="low_rank",rank=2',
            'name="block_top_k",block=64,fraction=0.1',
            'name="budget",of="top_k",budget_bytes=60',
            'name="compose",sparsifier={name="top_k",fraction=0.3},values={name="block_int8"}',
            'name="decay",of="top_k",parameter="fraction",first=0.5,ratio=0.5,every=5,last=0.1',
            'name="scaled",unbiased={name="natural"}',
            'name="schedule",pieces=[{round=0,name="top_k",fraction=0.5},{round=9,name="top_k",fraction=0.1}]',
            'name="sampled_top_k",fraction=0.2',
            'name="unscaled_rand_k",fraction=0.2',
        )
    ),
    *(
        ("diana_sgda", up, up)
        for up in (
            *(f'name="{name}"' for name in ("block_int4", "block_int8", "stochastic_bfloat16", "ternary")),
            'name="bernoulli",probability=0.2',
            'name="dithering",levels=7,norm="max",block=32',
            'name="natural_dithering",levels=7,block=32',
            'name="induced",contractive={name="top_k",fraction=0.2},unbiased={name="rand_k",fraction=0.2}',
        )
    ),
)

POWER_SGD = """workers = 2
problem = {name = "digits_transformer", size = "tiny", attack = "none"}
data = {source = "digits"}
method = {name = "power_sgd", step_size = 0.02}
"""

CASES = (
    Case("every_method", 30),
    Case("power_sgd", 2),
    Case("robust_logistic", 100),
    Case("bilinear", 100),
    Case("bilinear_innovations", 100),
    Case("bilinear_masha2", 100),
    Case("compare_bilinear", 40),
    Case("matrix_game", 12, ("problem.rows=100", "problem.columns=80")),
    Case("digits_gan", 6),
    Case("digits_transformer", 3),
    Case("digits_transformer_local", 2),
    Case("groupwise_synthetic", None, ("data.rounds=3000", "shuffles=[473,503]")),
    Case("a9a", 20, data="a9a/a9a.xz"),
    Case("compare_a9a", 12, data="a9a/a9a.xz"),
    Case("group_robust_adult", 12, data="adult/adult.data.xz"),
    Case("albert_sst2", 3, data="sst2", lines=200),
    Case("albert_wikitext2", 3, data="wikitext2", lines=1500),
    Case("groupwise_adult", None, ("shuffles=[473]",), data="adult/adult.data.xz", lines=2000),
    Case("groupwise_medical", None, ("shuffles=[473,503]",), data="medical_cost/insurance.csv"),
)
GRPC = ("robust_logistic", "bilinear_innovations", "bilinear_masha2")


def label_of(method: str, up: str) -> str:
    """A method and its compressor by name, so that a new one shifts no other."""
    named = re.match(r'name="(\w+)"', up)
    return f"{method} {named[1]}" if named else method


def every_method() -> str:
    """The recipe of what no other one names."""
    tables = ['workers = 4\nproblem = {name="finite_bilinear", n=32}\n[method]\nname = "ogda"\nstep_size = 0.02']
    for name, up, down in EVERY:
        ways = "".join(f"{way} = {{{what}}}\n" for way, what in (("up", up), ("down", down)) if what)
        tables.append(f'[[baseline]]\nname = "{name}"\nlabel = "{label_of(name, up)}"\nstep_size = 0.02\n{ways}')
    return "\n".join(tables)


def measure(case: Case, driver: str, data_dir: Path | None, folder: Path) -> dict[str, Any]:
    """Run a case; returns label -> what is kept of it."""
    out = folder / f"out-{case.recipe}"
    sets = list(case.sets)
    if case.data:
        assert data_dir is not None
        sets.append(f"data.source={excerpt(data_dir / case.data, case.lines, folder)}")
    if case.rounds is None:
        command = ["groupwise", "run", "--processes", "1"]
    else:
        command = ["run", "--driver", driver, "--quiet"]
        sets += [f"stop.max_rounds={case.rounds}", f"stop.every={case.rounds}"]
    for each in sets:
        command += ["--set", each]
    recipe = RECIPES / f"{case.recipe}.toml"
    if not recipe.exists():
        recipe = folder / recipe.name
        recipe.write_text(POWER_SGD if case.recipe == "power_sgd" else every_method())
    saddlebag(*command, "--out", str(out), str(recipe))
    if case.rounds is None:
        return {"study": {"digest": written(out)}}
    found = json.loads((out / "result.json").read_text())
    return {job["label"]: {key: job[key] for key in KEPT} for job in found["jobs"]}


def saddlebag(*arguments: str) -> None:
    """The command line of the interpreter that runs this file."""
    program = Path(sys.executable).with_name("saddlebag")
    done = subprocess.run(
        [str(program), *arguments], env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"saddlebag {' '.join(arguments)}\nended with {done.returncode}: {done.stderr.strip()[-2000:]}")


def written(out: Path) -> str:
    """Digest of the numbers that a study has written: its result without times, and its tables."""
    digest = hashlib.sha256(json.dumps(timeless(json.loads((out / "result.json").read_text())), sort_keys=True).encode())
    for path in sorted(out.glob("*.csv")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def timeless(value: Any) -> Any:
    """A JSON value without the keys that say how fast the machine was."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def excerpt(source: Path, lines: int, folder: Path) -> Path:
    """The first lines of a file, or of each file of a folder; unpacked."""
    if not lines:
        return source
    if source.is_dir():
        for path in source.iterdir():
            excerpt(path, lines, folder)
        target = folder / source.name
    else:
        target = folder / source.parent.name / source.name.removesuffix(".xz").removesuffix(".gz")
        target.parent.mkdir(exist_ok=True)
        packed = source.read_bytes()
        plain = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(source.suffix, bytes)(packed)
        target.write_bytes(b"".join(plain.splitlines(keepends=True)[:lines]))
    return target


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What two tables say differently, a line each; cases that one of them lacks are skipped (another driver, no data)."""
    lines = []
    for case in sorted(before.keys() & after.keys()):
        for label in sorted(before[case].keys() | after[case].keys()):
            old, new = (table[case].get(label, {}) for table in (before, after))
            keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            lines += [f"{case}, {label}: {key} was {old.get(key)}, is {new.get(key)}" for key in keys]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", metavar="FILE", type=Path, help="write the table")
    what.add_argument("--compare", metavar="FILE", type=Path, help="measure again, and end with 1 if anything differs")
    parser.add_argument("--data-dir", metavar="DIR", type=Path, help="where a9a/, adult/, sst2/, ... lie")
    parser.add_argument("--driver", choices=("simulate", "grpc"), default="simulate")
    parser.add_argument("--only", metavar="RECIPE", nargs="+", help="these recipes")
    args = parser.parse_args()
    wanted = args.only or (GRPC if args.driver == "grpc" else [case.recipe for case in CASES])
    cases = [case for case in CASES if case.recipe in wanted and (args.data_dir or not case.data)]
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            print(case.recipe, file=sys.stderr, flush=True)
            table[case.recipe] = measure(case, args.driver, args.data_dir, Path(folder))
    if args.write:
        args.write.write_text(json.dumps(table, indent=1) + "\n")
        return
    before = json.loads(args.compare.read_text())
    lines = differences(before, table)
    print("\n".join(lines) or f"{len(before.keys() & table.keys())} recipes: every digest and every byte as before")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
