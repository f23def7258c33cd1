"""A program's offer over a wire that can hide a call, or its name, from the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np

from saddlebag.client.account import ClientLedger
from saddlebag.client.link import offer as offering
from saddlebag.proto.endpoint import SERVICE, ClientSecurity, ServerSecurity
from saddlebag.proto.seal import sealed
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.port import open_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


def offers(*answers: Callable[[Any], Awaitable[None]]) -> int:
    """How many calls an offer takes that meets these answers in turn; the last one for good."""
    calls = 0

    async def answer(requests: Any, context: Any) -> None:
        nonlocal calls
        calls += 1
        await answers[min(calls, len(answers)) - 1](context)

    async def main() -> None:
        methods = {"Offer": grpc.stream_stream_rpc_method_handler(answer)}
        ways: dict[str, Any] = {"has_token": False, "warn": print}
        server, port = await open_port(SERVICE, methods, "127.0.0.1:0", ServerSecurity(), **ways)
        given: dict[str, Any] = {"worker": 0, "token": "", "give_up_s": 30.0, "ledger": ClientLedger()}
        await offering.offer(f"127.0.0.1:{port}", ClientSecurity(), "{}", np.ones(3), **given)
        await server.stop(None)

    asyncio.run(asyncio.wait_for(main(), 60))
    return calls


async def knows(context: Any) -> None:
    await context.read()
    await context.write(sealed(pb.OfferReply(wanted=False).SerializeToString()))


async def unknown(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


async def silent(context: Any) -> None:
    del context
    await asyncio.Event().wait()


def test_an_offer_is_over_when_the_server_knows_of_none_twice() -> None:
    assert offers(knows) == 1
    assert offers(unknown, knows) == 2, "once may be a flipped bit in the name of the call"
    assert offers(unknown) == 2


def test_an_offer_that_nobody_answers_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering, "_SILENT_S", 0.2)
    assert offers(silent, knows) == 2
