"""What travels in Flower's messages has checksums: a flipped bit is an error of that client, never a wrong sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import Array, ConfigRecord

from saddlebag.compression import Dense, Draws
from saddlebag.errors import BrokenStream, RemoteProtocolError
from saddlebag.flower.compression.link import Instruction, Report
from saddlebag.flower.compression.packing import PAYLOAD, pack_payload, unpack_payload
from saddlebag.flower.methods.link import Orders

INSTRUCTION = Instruction(
    record="arrays",
    base=3,
    schema="[]",
    version=4,
    digest=5,
    seed=6,
    round=7,
    up="{}",
    memory="diana",
    shift_step=0.1,
    shift_digest=9,
)
ORDERS = Orders(recipe="{}", resolved="{}", epoch=1, resume=2, fresh=False, from_start=False, heal=True, members=[0, 1])


@pytest.mark.parametrize("facts", [INSTRUCTION, Report(worker=1, version=2, shift_reset=False), ORDERS])
def test_facts_that_were_altered_are_noticed(facts: Any) -> None:
    record = facts.to_record()
    assert type(facts).from_record(record) == facts
    others = {
        int: lambda value: value ^ 4,
        bool: lambda value: not value,
        float: lambda value: value + 2**-40,
        str: lambda value: value + " ",
    }
    for key in [key for key in record if key != "protocol"]:
        value = record[key]
        change = others.get(type(value), lambda value: [*value, 7])
        with pytest.raises(BrokenStream, match="do not fit their checksum"):
            type(facts).from_record(ConfigRecord({**record, key: change(value)}))


def test_a_flipped_bit_of_a_payload_is_noticed() -> None:
    array, draws = pack_payload(Dense(np.arange(5.0, dtype=np.float32))), Draws(0, 0, 0)
    assert np.array_equal(unpack_payload(array, 5, draws).dense(), np.arange(5.0))
    for bit in range(8 * len(array.data)):
        hurt = bytearray(array.data)
        hurt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BrokenStream, match="a payload of 27 bytes does not fit its checksum"):
            unpack_payload(Array("uint8", (len(hurt),), PAYLOAD, bytes(hurt)), 5, draws)


def test_another_release_is_refused_by_its_version() -> None:
    with pytest.raises(RemoteProtocolError, match="link protocol 3 is not 4"):
        Report.from_record(ConfigRecord({"protocol": 3, "worker": 1, "version": 2, "shift_reset": False}))
