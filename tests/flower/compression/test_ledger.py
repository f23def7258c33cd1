from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is an extra")
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from saddlebag.flower import serialised_bytes


def test_the_bytes_are_those_of_the_objects_that_flower_would_send() -> None:
    model = ArrayRecord([np.arange(1000.0), np.zeros(7, np.int64), np.arange(1000.0)])  # two equal arrays are one object
    known: dict[str, tuple[int, list[str]]] = {}
    for number in range(2):
        content = RecordDict({"model": model, "config": ConfigRecord({"round": number})})
        expected = sum(len(each.deflate()) for each in get_all_nested_objects(content).values())
        assert serialised_bytes(content) == serialised_bytes(content, known) == expected
        assert 8000 < expected < 16000
