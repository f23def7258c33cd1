"""Bare gRPC streams: what a round of so many bytes each way costs without Saddlebag; every process only reads and writes.

The same frames, options, TLS and process settings as a session; the bytes are made once, so that they are in the cache. Beside
`bench_flower_deployment.py`, which copies it into its app.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from saddlebag.launch.drivers.process import tune_process
from saddlebag.proto.endpoint import MESSAGE_OPTIONS, ClientSecurity, ServerSecurity
from saddlebag.proto.frames import FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

METHOD = "/saddlebag.benchmarks.Floor/Exchange"


def frames_of(num_bytes: int) -> list[bytes]:
    """Bytes that compress badly, in pieces as long as frames."""
    data = bytes(range(256)) * (num_bytes // 256 + 1)
    edges = [*range(0, num_bytes, FRAME_BYTES), num_bytes]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def serve(workers: int, rounds: int, num_bytes: int, security: ServerSecurity, listening: Callable[[str], None]) -> list[float]:
    """Answer each round when every worker's bytes are there; returns when the rounds ended, by the monotonic clock."""
    tune_process()
    return asyncio.run(_serve(workers, rounds, num_bytes, security, listening))


async def _serve(
    workers: int, rounds: int, num_bytes: int, security: ServerSecurity, listening: Callable[[str], None]
) -> list[float]:
    frames, ends_s, waiting, left = frames_of(num_bytes), [], [], workers
    over = asyncio.Event()

    async def exchange(requests: Any, context: Any) -> None:
        nonlocal left
        for _ in range(rounds):
            for _ in frames:
                await context.read()
            all_there = asyncio.get_running_loop().create_future()
            waiting.append(all_there)
            if len(waiting) == workers:
                ends_s.append(time.monotonic())
                for future in waiting:
                    future.set_result(None)
                waiting.clear()
            await all_there
            for frame in frames:
                await context.write(frame)
        left -= 1
        if not left:
            over.set()

    server = grpc.aio.server(options=MESSAGE_OPTIONS)
    handler = grpc.method_handlers_generic_handler(
        METHOD.split("/")[1], {"Exchange": grpc.stream_stream_rpc_method_handler(exchange)}
    )
    server.add_generic_rpc_handlers((handler,))
    credentials = security.credentials()
    add = server.add_insecure_port if credentials is None else lambda name: server.add_secure_port(name, credentials)
    port = add("127.0.0.1:0")
    await server.start()
    listening(f"127.0.0.1:{port}")
    await over.wait()
    await server.stop(0.5)
    return ends_s


def work(address: str, rounds: int, num_bytes: int, security: ClientSecurity) -> None:
    """Take part as one worker."""
    tune_process()
    asyncio.run(_work(address, rounds, num_bytes, security))


async def _work(address: str, rounds: int, num_bytes: int, security: ClientSecurity) -> None:
    credentials, frames = security.credentials(), frames_of(num_bytes)
    channel = (
        grpc.aio.insecure_channel(address, options=MESSAGE_OPTIONS)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=MESSAGE_OPTIONS)
    )
    async with channel:
        call = channel.stream_stream(METHOD)()
        for _ in range(rounds):
            for frame in frames:
                await call.write(frame)
            for _ in frames:
                await call.read()
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass
