"""Budgets in bytes against encoded messages."""

from __future__ import annotations

import numpy as np
import pytest

from saddlebag.algorithms import Message
from saddlebag.compression import Draws, make_compressor
from saddlebag.proto.codec import encode


@pytest.mark.parametrize(
    ("of", "params"),
    [
        ("top_k", {}),
        ("rand_k", {}),
        ("dithering", {"norm": "max", "block": 256}),
        ("natural_dithering", {}),
        ("low_rank", {}),
    ],
)
@pytest.mark.parametrize("budget_bytes", [6_000, 20_000, 75_000])
def test_messages_keep_the_budget(of: str, params: dict[str, object], budget_bytes: int) -> None:
    """What is promised in bytes is measured in bytes, on a vector whose coordinates are as likely."""
    x_D = np.random.default_rng(0).standard_normal(20_000)
    compressor = make_compressor("budget", of=of, budget_bytes=budget_bytes, **params)
    size = len(b"".join(encode(Message((compressor.encode(x_D, Draws(0, 0, 0)),)))))
    assert size <= budget_bytes
    if of in ("top_k", "rand_k"):  # k is fine enough to use it up
        assert size >= 0.93 * budget_bytes or compressor.resolved(20_000)[1]["k"] == 20_000  # type: ignore[attr-defined]
