"""What the benchmarks share: child processes, clocks, memory, spread and tables. Standard library only, but for the tables."""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LOOPBACK = "127.0.0.1"
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "GRPC_VERBOSITY": "NONE"}  # nothing leaves the machine
_NAMES = ("load", "cores", "python")

Row = dict[str, Any]
_record: Path | None = None
T = TypeVar("T")


# -- processes -----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def cast_and_serve(server: list[str], worker: Callable[[int, int], list[str]], workers: int, timeout_s: float) -> Row:
    """Start a server, then its workers; returns the JSON object that the server prints at the end.

    The server prints its port first. `worker(rank, port)` is the command line of a worker. Every process ends with this
    call, whatever happens.
    """
    repository = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (repository, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, **ONE_THREAD, **_QUIET, "PYTHONPATH": path}
    deadline = time.monotonic() + timeout_s
    children: list[subprocess.Popen[Any]] = [subprocess.Popen(server, stdout=subprocess.PIPE, text=True, env=environment)]
    with tempfile.TemporaryFile("w+") as said:  # what workers say: when the server has failed, that they have lost it
        try:
            assert children[0].stdout is not None
            first = children[0].stdout.readline()
            if not first:
                raise SystemExit(f"the server ended at once: {' '.join(server)}")
            for rank in range(workers):
                command = worker(rank, int(first))
                children.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=environment))
            out, _ = children[0].communicate(timeout=timeout_s)
            if children[0].returncode:
                raise SystemExit(f"the server ended with {children[0].returncode}, see above: {' '.join(server)}")
            for child in children[1:]:
                child.wait(timeout=max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise SystemExit(f"no end within {timeout_s:g} s: {' '.join(server)}") from None
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()
                child.wait()
        if any(child.returncode for child in children):
            said.seek(0)
            print(*said.read().splitlines()[-20:], sep="\n", file=sys.stderr)
            raise SystemExit(f"exit codes {[child.returncode for child in children]}: {' '.join(server)}")
    result: Row = json.loads(out.strip().splitlines()[-1])
    return result


def say(value: object) -> None:
    """Tell the parent: the port, or the result as JSON."""
    print(value if isinstance(value, int) else json.dumps(value), flush=True)


def memory(pid: int | str = "self") -> dict[str, int]:
    """VmRSS and VmHWM of a process in bytes; empty when it is gone, and for others than this one where there is no /proc."""
    if not Path("/proc/self/status").exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {"VmRSS": peak, "VmHWM": peak} if pid == "self" else {}
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) << 10 for key in ("VmRSS", "VmHWM") if key in fields}


def family_cpu_s() -> float:
    """CPU seconds of this process and its siblings: all processes of a contender; of this one alone without /proc."""
    parent, total = os.getppid(), 0
    if not Path("/proc/self/stat").exists():
        return time.process_time()
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK_S


class Meter:
    """Times rounds where they end, on the server; the first `warm_up` do not count."""

    def __init__(self, rounds: int, warm_up: int) -> None:
        self.total, self._warm_up = rounds + warm_up, warm_up
        self._at_s: list[float] = []
        self._cpu_s: list[tuple[float, float]] = []  # of the whole family and of this process, at both ends

    def tick(self) -> None:
        """A round has ended."""
        self._at_s.append(time.perf_counter())
        if len(self._at_s) in (self._warm_up, self.total):
            self._cpu_s.append((family_cpu_s(), time.process_time()))

    def result(self) -> Row:
        at_s = self._at_s[self._warm_up - 1 :]
        took_s = sorted(b - a for a, b in itertools.pairwise(at_s))
        rounds, elapsed_s = len(took_s), at_s[-1] - at_s[0]
        family_s, own_s = (after - before for before, after in zip(*self._cpu_s, strict=True))
        return {
            "rounds": rounds,
            "rounds_per_s": rounds / elapsed_s,
            "round_ms": 1e3 * elapsed_s / rounds,
            "p50_ms": 1e3 * took_s[rounds // 2],
            "p99_ms": 1e3 * took_s[min(rounds - 1, rounds * 99 // 100)],
            "cpu_ms": 1e3 * family_s / rounds,
            "server_cpu_ms": 1e3 * own_s / rounds,
            "server_peak_bytes": memory()["VmHWM"],
        }


# -- repetitions ---------------------------------------------------------------------------------------------------------


def interleaved(contenders: Sequence[T], repetitions: int) -> Iterator[tuple[int, T]]:
    """Every contender once in each repetition, in random order."""
    for repetition in range(repetitions):
        for contender in random.sample(contenders, len(contenders)):
            yield repetition, contender


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def column(rows: Iterable[Row], contender: str, key: str) -> list[float]:
    """The values of one contender by repetition."""
    return [float(row[key]) for row in rows if row["contender"] == contender]


def ratios(rows: Sequence[Row], key: str, above: str, below: str) -> list[float]:
    """above / below within each repetition."""
    return [a / b for a, b in zip(column(rows, above, key), column(rows, below, key), strict=True)]


def verdict(values: Sequence[float], goal: float, *, at_least: bool) -> str:
    """Whether the median meets the goal."""
    if not values:
        return "not measured"
    middle = statistics.median(values)
    return "met" if (middle >= goal if at_least else middle <= goal) else "missed"


# -- output --------------------------------------------------------------------------------------------------------------


def numbers_parser(text: str | None, **defaults: float) -> argparse.ArgumentParser:
    """A parser of numbers by name, of their defaults' type, and of the options of the output."""
    parser = argparse.ArgumentParser(description=text)
    for name, default in defaults.items():
        said = "of one contender in one repetition" if name == "timeout_s" else None
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=said)
    add_output_options(parser)
    return parser


def add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every measurement to this file")
    parser.add_argument("--markdown", action="store_true", help="print the tables as markdown")
    parser.add_argument(
        "--record", metavar="FILE", type=_keep_record, help="append them to this file as a line, with machine and commit"
    )


def add_role_options(parser: argparse.ArgumentParser, *texts: str, numbers: Sequence[str] = ()) -> None:
    """What a benchmark tells the processes that it starts, of which its help is silent: who they are, and more of its own."""
    for name in ("--contender", "--role", *texts):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--rank", "--port", *numbers):
        parser.add_argument(name, type=int, default=0, help=argparse.SUPPRESS)


def environment() -> dict[str, str]:
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return dict(zip(_NAMES, (load, str(os.cpu_count()), sys.version.split()[0]), strict=True))


def show(title: str, header: Sequence[str], lines: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """Print a table."""
    if markdown:
        print(f"\n**{title}**\n")
        for line in (header, ["---"] * len(header), *lines):
            print("| " + " | ".join(line) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def machine() -> dict[str, str | int | None]:
    """What a figure depends on beside the code: processor, cores, system, versions."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "torch", "grpcio", "protobuf")}
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **packages,
    }


def commit() -> str:
    """The commit that was measured; with a plus if files differ from it, empty outside a repository."""
    told = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": False}
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **told).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **told).stdout  # type: ignore[call-overload]
    except OSError:
        return ""
    return f"{head}+" if changed else str(head)


def _keep_record(file: str) -> Path:
    """Parse --record: `save`, which every benchmark calls at its end, reads it from here."""
    global _record
    _record = Path(file)
    return _record


def _arguments() -> list[str]:
    """The command line without what says where results go."""
    given = iter(sys.argv[1:])
    return [each for each in given if not (each in ("--record", "--json") and next(given, ""))]


def save(path: Path | None, rows: Sequence[Row]) -> None:
    """Keep the measurements where --json and --record say."""
    if _record is not None:
        line = {"script": Path(sys.argv[0]).name, "arguments": _arguments(), "commit": commit(), "load": os.getloadavg()[0]}
        line |= {"machine": machine(), "measurements": list(rows)}
        with _record.open("a") as file:
            file.write(json.dumps(line) + "\n")
    if path is not None:
        path.write_text(json.dumps({"environment": environment(), "measurements": list(rows)}, indent=1) + "\n")


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
