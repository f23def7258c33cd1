"""`saddlebag doctor`: whether this machine can run, and what it runs with."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saddlebag.launch.commands.options import json_option, print_json, warn_of_plugins
from saddlebag.launch.cores import available_cores

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKS", "diagnose", "doctor"]

_PACKAGES = ("torch", "grpcio", "numpy", "protobuf", "safetensors", "scikit-learn", "matplotlib", "click", "rich")
_PROTOBUF = ((6, 33, 5), (7,))  # the range of pyproject.toml
_TIMEOUT_S = 5.0


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check that this machine can run, and show what it runs with."""
    rows = diagnose()
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            mark = click.style("ok  ", fg="green") if row["ok"] else click.style("FAIL", fg="red")
            click.echo(f"{mark}  {row['name']:10} {row['detail']}")
        warn_of_plugins()
    if not all(row["ok"] for row in rows):
        raise click.exceptions.Exit(1)


def diagnose() -> list[dict[str, Any]]:
    """Run every check; one row for each: name, ok, detail. A check that raises has failed with that reason."""
    rows = []
    for name, check in CHECKS.items():
        try:
            ok, detail = True, check()
        except Exception as error:  # anything may be broken here: that is what we are to find out
            ok, detail = False, f"{type(error).__name__}: {error}"
        rows.append({"name": name, "ok": ok, "detail": detail.partition("\n")[0]})
    return rows


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036 (an environment may lie about what it installs)
        raise RuntimeError(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _packages() -> str:
    import importlib.metadata

    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)


def _protobuf() -> str:
    import importlib.metadata

    version = importlib.metadata.version("protobuf")
    numbers = tuple(int(part) for part in version.split(".")[:3] if part.isdecimal())
    if not _PROTOBUF[0] <= numbers < _PROTOBUF[1]:
        raise RuntimeError(f"protobuf >=6.33.5,<7 is needed, this is {version}; pip install 'protobuf>=6.33.5,<7'")
    from saddlebag.proto.v1 import parameter_server_pb2 as pb

    request = pb.JoinRequest(protocol=1, worker=3)
    assert pb.JoinRequest.FromString(request.SerializeToString()) == request
    return f"{version}, and the generated messages round-trip"


def _grpc() -> str:
    from concurrent import futures

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    from saddlebag.proto.channel import open_channel

    server = grpc.server(futures.ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with open_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S, wait_for_ready=True)
            began = time.perf_counter()
            for _ in range(20):
                stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
            return f"grpcio {grpc.__version__}, loopback round trip {(time.perf_counter() - began) / 20 * 1e6:.0f} us"
    finally:
        server.stop(None)


def _output() -> str:
    import tempfile

    with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
        file.write(b"x")
    return f"{Path.cwd()} can be written"


def _cpus() -> str:
    return f"{available_cores()} available"


def _blas() -> str:
    import numpy  # noqa: F401 (loads the library that is asked about)
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # it ships no types

    pools = [f"{pool['internal_api']} {pool['num_threads']}" for pool in threadpool_info()]
    if any(pool["num_threads"] > 1 for pool in threadpool_info()):
        raise RuntimeError(
            f"threads: {', '.join(pools)}; trajectories are bit-identical with one: unset OMP_NUM_THREADS and its kin"
        )
    return f"threads: {', '.join(pools) or 'no pool found'}"


def _smoke() -> str:
    from saddlebag.launch.api import make_compressor, make_method, make_problem, simulate

    problem = make_problem("bilinear", n=10, workers=4, regularisation=0.5)
    up = make_compressor("rand_k", fraction=0.5)
    method = make_method("masha1", problem, up=up, step_size="0.3/L", probability=0.3)
    began = time.perf_counter()
    outcome = simulate(problem, method, stop=1e-6)
    seconds = time.perf_counter() - began
    if outcome.reason != "merit":
        raise RuntimeError(f"MASHA1 on a small game ended with {outcome.reason!r} after {outcome.rounds} rounds")
    return f"MASHA1 reaches 1e-6 on a small game: {outcome.rounds} rounds, {outcome.rounds / seconds:.0f} rounds/s"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "packages": _packages,
    "protobuf": _protobuf,
    "grpc": _grpc,
    "output": _output,
    "cpus": _cpus,
    "blas": _blas,
    "simulate": _smoke,
}
