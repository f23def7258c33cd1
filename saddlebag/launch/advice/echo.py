"""A link measured by itself: a small server that swallows, sends and returns bytes over gRPC, and the client that times it.

The streams are like those of a run: raw bytes in messages of 1 MiB through one long-lived connection. What a peer may ask
for is bounded; nothing is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from saddlebag.errors import ConfigError, PeerLost
from saddlebag.proto.address import parse_address
from saddlebag.proto.channel import open_channel
from saddlebag.proto.endpoint import MESSAGE_OPTIONS, SERVER_OPTIONS, ClientSecurity, ServerSecurity, pings
from saddlebag.proto.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Link", "loopback", "measure_link", "serve_echo"]

SERVICE = "saddlebag.launch.Echo"
CHUNK_BYTES = 1 << 20
MOST_BYTES = 1 << 27
"""Of one transfer: a tenth of a second at 10 Gbit/s."""
_FIRST_BYTES = 1 << 16
_LONG_ENOUGH_S = 0.25  # a transfer that takes as long gives the rate
_DEADLINE_S = 30.0
_PINGS = 40
_THREADS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """A link between a worker and the server.

    Attributes:
        up, down: rates from the worker to the server and back, bits per second.
        latency_s: one way.
        source: where the numbers come from, for people.
    """

    up: float
    down: float
    latency_s: float
    source: str


def _swallow(requests: Iterator[bytes], context: Any) -> bytes:
    del context
    return sum(len(chunk) for chunk in requests).to_bytes(8, "little")


def _send(request: bytes, context: Any) -> Iterator[bytes]:
    size = int.from_bytes(request[:8], "little")
    if size > MOST_BYTES:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"at most {MOST_BYTES} bytes are sent, {size} were asked for")
    yield from _chunks(size)


def _return(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    del context
    for request in requests:
        yield request[:8]


def _chunks(size: int) -> Iterator[bytes]:
    chunk = bytes(CHUNK_BYTES)
    for _ in range(size // CHUNK_BYTES):
        yield chunk
    if size % CHUNK_BYTES:
        yield chunk[: size % CHUNK_BYTES]


def serve_echo(
    address: str, *, seconds: float, security: ServerSecurity, note: Callable[[str], None], listening: Callable[[str], None]
) -> None:
    """Answer measurements at HOST:PORT for a while; port 0 for any. `listening` is told the address.

    Raises:
        ConfigError: the address is malformed or taken, or is no loopback and `security` does not allow for that; a file of
            TLS is missing.
    """
    place = parse_address(address, "--address", listening=True)
    security.require_safe(place.name, has_token=False, warn=note)
    credentials = security.credentials()
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS),
        options=[*MESSAGE_OPTIONS, *SERVER_OPTIONS, *pings()],
        maximum_concurrent_rpcs=_THREADS,
    )
    methods = {
        "Swallow": grpc.stream_unary_rpc_method_handler(_swallow),
        "Send": grpc.unary_stream_rpc_method_handler(_send),
        "Return": grpc.stream_stream_rpc_method_handler(_return),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    try:
        bound = server.add_secure_port(str(place), credentials) if credentials else server.add_insecure_port(str(place))
    except RuntimeError as error:
        raise ConfigError(f"cannot listen at {address}: {error}") from error
    server.start()
    listening(str(place.at(bound)))
    try:
        server.wait_for_termination(seconds)
    finally:
        server.stop(None).wait()


def measure_link(address: str, patience_s: float = 10.0, security: ClientSecurity | None = None) -> Link:
    """Measure the link to `saddlebag echo` at HOST:PORT: about three seconds, at most 30 for a transfer.

    Raises:
        PeerLost: nothing there answers, or not with these certificates.
        ConfigError: the address is none, or a file of TLS is missing or wrong.
    """
    place, security = parse_address(address, "--link"), security or ClientSecurity()
    with open_channel(place, security) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=patience_s)
            latency_s = _latency(channel.stream_stream(f"/{SERVICE}/Return"))
            swallow, send = channel.stream_unary(f"/{SERVICE}/Swallow"), channel.unary_stream(f"/{SERVICE}/Send")
            up = _rate(lambda size: swallow(_chunks(size), timeout=_DEADLINE_S), latency_s)
            down = _rate(lambda size: _drain(send(size.to_bytes(8, "little"), timeout=_DEADLINE_S)), latency_s)
        except grpc.FutureTimeoutError as error:
            found = probe(place, security)
            why = f": {found.text}" if found else ""
            raise PeerLost(f"nothing answers at {address}{why}; start 'saddlebag echo' there") from error
        except grpc.RpcError as error:
            raise PeerLost(f"the link to {address} cannot be measured: {error.code().name}: {error.details()}") from error
    return Link(up=up, down=down, latency_s=latency_s, source=f"measured to {address}")


def _latency(call: Any) -> float:
    """Half the median round trip on a stream."""
    ready, done = threading.Semaphore(1), threading.Event()

    def requests() -> Iterator[bytes]:
        while ready.acquire(timeout=_DEADLINE_S) and not done.is_set():
            yield bytes(8)

    times = []
    replies = call(requests(), timeout=_DEADLINE_S)
    began = time.perf_counter()
    for _ in replies:
        times.append(time.perf_counter() - began)
        if len(times) == _PINGS:
            break
        began = time.perf_counter()
        ready.release()
    done.set()
    ready.release()
    replies.cancel()
    return float(np.median(times)) / 2.0


def _drain(replies: Iterator[bytes]) -> None:
    for _ in replies:
        pass


def _rate(transfer: Callable[[int], Any], latency_s: float) -> float:
    """Bits per second: transfers twice as long each time, until one takes long enough; the best of three of those."""
    size = _FIRST_BYTES
    while (seconds := _seconds(transfer, size)) < _LONG_ENOUGH_S + 2 * latency_s and size < MOST_BYTES:
        size *= 2
    seconds = min(seconds, *(_seconds(transfer, size) for _ in range(2)))
    return 8.0 * size / max(seconds - 2 * latency_s, seconds / 2)


def _seconds(transfer: Callable[[int], Any], size: int) -> float:
    began = time.perf_counter()
    transfer(size)
    return time.perf_counter() - began


@contextlib.contextmanager
def _echo_process() -> Iterator[str]:
    """`saddlebag echo` in a process of its own, as a server would be; gives its address."""
    command = [sys.executable, "-m", "saddlebag", "echo", "--seconds", "120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise PeerLost("the loopback server for the measurement did not start; see 'saddlebag doctor'")
            yield line.split()[-1]
        finally:
            process.terminate()


def loopback() -> Link:
    """What gRPC itself reaches between two processes of this machine: no link is faster than that."""
    with _echo_process() as address:
        return dataclasses.replace(measure_link(address), source="measured over loopback")
