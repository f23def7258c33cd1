"""A client that cannot connect says why, at once."""

from __future__ import annotations

import socket
import time

import grpc
import pytest

from saddlebag.client.groupwise import GroupwiseClient, ShardedClient
from saddlebag.errors import ConfigError, PeerLost
from saddlebag.launch.advice.echo import measure_link


@pytest.mark.parametrize("address", ["127.0.0.1", ":7171", "127.0.0.1:99999", "::1:7171"])
def test_what_is_no_address_is_never_called(address: str) -> None:
    with pytest.raises(ConfigError, match="address must be HOST:PORT"):
        GroupwiseClient(address)
    with pytest.raises(ConfigError, match="address must be HOST:PORT"):
        ShardedClient([address])
    with pytest.raises(ConfigError, match="--link must be HOST:PORT"):
        measure_link(address)


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    begin = time.monotonic()
    with pytest.raises(PeerLost, match=f"no answer from the server at {address}: nothing listens there") as lost:
        GroupwiseClient(address)
    assert time.monotonic() - begin < 10.0
    assert isinstance(lost.value.__cause__, PeerLost)
    assert isinstance(lost.value.__cause__.__cause__, grpc.RpcError)
