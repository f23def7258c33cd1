"""The smoke form of every benchmark: so small that its figures mean nothing, but every line of it runs.

    python benchmarks/smoke.py                    # all of them, about a minute of two cores
    python benchmarks/smoke.py bench_rounds.py    # these

CI runs all but LONG (tests/e2e/test_benchmarks.py): a change that breaks a benchmark is seen with the change, not when
somebody wants the figure. Nothing here needs data, a network or the root user; what does is listed with the reason.
"""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TIMEOUT_S = 110.0


@dataclasses.dataclass(frozen=True)
class Smoke:
    """How a benchmark runs small.

    Attributes:
        arguments: Its command line; {text}, {adult} and {out} are files that `prepare` makes.
        needs: Modules without which it cannot run.
    """

    arguments: str
    needs: tuple[str, ...] = ()


ONCE = "--repetitions 1"
SMOKE = {
    "bench_advice.py": Smoke("--smoke"),
    "bench_local.py": Smoke("--smoke"),
    "bench_thin_links.py": Smoke("--smoke"),
    "tune_thin_links.py": Smoke("--smoke"),
    "rivals.py": Smoke("--smoke --out {out}/rivals"),
    "bench_auto.py": Smoke("--seeds 1 --methods ogda --problems quadratic --workers 1"),
    "bench_billion.py": Smoke("--dimension 300000 --workers 1"),
    "bench_bytes.py": Smoke(f"--d 20000 --steps 1 {ONCE}"),
    "bench_ddp_hook.py": Smoke("--seeds 1 --steps 12 --width 8 --rank 1"),
    "bench_dense.py": Smoke(f"--workers 2 --dimensions 2000 --rounds 3 {ONCE}"),
    "bench_flower.py": Smoke("--seeds 1 --rounds 2 --clients 10 --dimension 1000 --only overhead", ("flwr",)),
    "bench_flower_deployment.py": Smoke("--messages 4 --rounds 8 --only small", ("flwr",)),
    "bench_groupwise.py": Smoke(f"{ONCE} --groups 12 --dimensions 25"),
    "bench_kernels.py": Smoke(f"--dimension 20000 {ONCE}"),
    "bench_memory.py": Smoke("--workers 1 --rounds 20 --data {libsvm}"),
    "bench_node.py": Smoke(f"--only ranks --ranks 2 --dimensions 1000 --turns 1 {ONCE}"),
    "bench_optimizer.py": Smoke("--coordinates 5000 --repeats 1"),
    "bench_round.py": Smoke(f"--dimension 5000 --workers 2 --rounds 3 --dense-rounds 3 {ONCE}"),
    "bench_rounds.py": Smoke(f"--workers 2 --dimension 20 --rounds 20 --flower-python {{none}} {ONCE}"),
    "bench_secure.py": Smoke(f"--active 4 --dimension 500 --rounds 2 {ONCE}", ("cryptography",)),
    "bench_flower_secure.py": Smoke("--seeds 1 --rounds 2 --clients 4", ("flwr", "cryptography")),
    "study_privacy.py": Smoke("--seeds 1 --rounds 2 --most-rows 250 --step-size 1", ("dp_accounting",)),
    "bench_service.py": Smoke(f"--clients 1 --batch 4 --groups 3 --awake 2 --features 3 --seconds 0.2 {ONCE}"),
    "bench_service_checkpoints.py": Smoke(f"--waiting 3000 --groups 3 --awake 2 --features 3 --seconds 1.5 {ONCE}"),
    "bench_shards.py": Smoke(f"--dimension 20000 --workers 2 --rounds 3 {ONCE}"),
    "bench_size.py": Smoke("--batch 1 --length 8 --steps 2 --large {{hidden=260,heads=4}} --only DDP Top", ("transformers",)),
    "gpu_check.py": Smoke("--cpu --only compressors speed hook"),
    "bench_sketch.py": Smoke("--dimension 20000"),
    "bench_stragglers.py": Smoke("--smoke"),
    "study_adversarial.py": Smoke("--seeds 1 --set stop.max_iterations=1 --set problem.batch_size=4"),
    "study_alarms.py": Smoke("--streams 2 --rounds 20"),
    "study_albert.py": Smoke("mlm {text} --iterations 2 --only nothing --json {out}/albert.json", ("transformers",)),
    "study_flower_robust.py": Smoke("--seeds 1 --rounds 1 --only FedAvg FedMedian", ("flwr",)),
    "study_flower_adversarial.py": Smoke("--seeds 1 --rounds 1 --clients 10", ("flwr",)),
    "study_gan.py": Smoke("--seeds 1 --jobs 1 --only Adam --set stop.max_iterations=2"),
    "study_mnist.py": Smoke("digits --seeds 1 --out {out}/mnist --set stop.max_iterations=1 --set problem.batch_size=4"),
    "study_layers.py": Smoke("--iterations 0 --error 0.1"),
    "study_bandit.py": Smoke("--smoke"),
    "study_greedy_blocks.py": Smoke("--smoke"),
    "study_group_robust.py": Smoke("{adult} --out {out} --set stop.max_iterations=5 --set workers=1 --set problem.min_rows=5"),
    "study_defaults.py": Smoke("{folder} --tasks hours --orders 1"),
    "study_mcgrad.py": Smoke("write {adult} {out}/predictions.npz"),
    "study_distillation.py": Smoke("digits --smoke"),
    "study_pruning.py": Smoke("digits --smoke"),
    "study_memories.py": Smoke("--seeds 1 --iterations 2 --only feedback"),
    "study_contributions.py": Smoke("--seeds 1 --rounds 2"),
    "study_robust.py": Smoke("--seeds 1 --rounds 2 --json {out}/robust.json"),
    "plot_total_bytes.py": Smoke("--iterations 5 --output {out}/plot.png"),
    "golden.py": Smoke("--only bilinear --write {out}/golden.json"),
    "way.py": Smoke(""),
}
LONG = {"bench_flower_deployment.py": "a minute of starting Flower's processes, as tests/e2e/test_flower_deployment.py does"}
NOT_HERE = {
    "bench_rehearsal.py": "network namespaces need the root user; tests/launch/rehearsal has the model",
    "bench_thin_wire.py": "network namespaces need the root user; tests/e2e/test_namespaces.py covers their half",
}


def prepare(folder: Path) -> dict[str, str]:
    """Write the small inputs; returns what the names in braces stand for."""
    rng = random.Random(0)
    text, adult, libsvm = folder / "text.txt", folder / "adult" / "adult.data", folder / "rows.libsvm"
    adult.parent.mkdir()
    text.write_text("\n".join(path.read_text() for path in sorted((HERE.parent / "docs").glob("*.md"))[:4]))
    adult.write_text("".join(adult_row(rng) for _ in range(200)))
    libsvm.write_text("".join(f"{rng.choice('+-')}1 {rng.randrange(1, 60)}:1 {rng.randrange(60, 124)}:1\n" for _ in range(80)))
    return {
        "folder": str(folder),
        "text": str(text),
        "adult": str(adult),
        "libsvm": str(libsvm),
        "out": str(folder / "out"),
        "none": sys.executable,
    }


def adult_row(rng: random.Random) -> str:
    """A made-up person in the columns of UCI's Adult."""
    race = rng.choice(("White", "Black", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other"))
    sex, income = rng.choice(("Male", "Female")), rng.choice(("<=50K", ">50K"))
    school, hours = f"HS-grad, {rng.randrange(7, 16)}", rng.randrange(20, 60)
    return (
        f"{rng.randrange(17, 80)}, Private, 7, {school}, Divorced, Sales, Wife, {race}, {sex}, 0, 0, {hours}, Cuba, {income}\n"
    )


def smoke(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a benchmark's smoke form; its files stay in the folder.

    Raises:
        subprocess.TimeoutExpired: It is too long for a smoke form.
    """
    (folder / "out").mkdir(exist_ok=True)
    arguments = SMOKE[name].arguments.format(**prepare(folder)).split()
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(HERE.parent), "FLWR_TELEMETRY_ENABLED": "0"}
    command = [sys.executable, str(HERE / name), *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def main() -> None:
    failed = []
    for name in sys.argv[1:] or SMOKE:
        begin, before = time.monotonic(), os.times()
        with tempfile.TemporaryDirectory() as folder:
            done = smoke(name, Path(folder))
        after = os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        verdict = "ok" if done.returncode == 0 else "FAILED"
        print(f"{name:32} {verdict:6} {time.monotonic() - begin:6.1f} s, {cpu_s:5.1f} s of CPU", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout[-1000:], done.stderr[-3000:], sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
