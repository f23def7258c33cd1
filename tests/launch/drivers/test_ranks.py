"""What a collective run on one machine says of its ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from saddlebag.client.group import talking
from saddlebag.errors import PeerLost
from saddlebag.launch.drivers.ranks import _complaint

if TYPE_CHECKING:
    from pathlib import Path


def lost(rank: int) -> str:
    """The line of a rank that has lost the others, as the command prints it."""
    with pytest.raises(PeerLost) as caught, talking(f"rank {rank} of 3"):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:7903\nwith advice")
    return f"error: {caught.value}\n"


def test_the_rank_that_ended_first_is_the_one_that_is_quoted(tmp_path: Path) -> None:
    """Its line may stand before or behind those of the others, who only know that it is gone."""
    log = tmp_path / "ranks.log"
    cause = "error: cannot write metrics.jsonl: No space left on device\n"
    for lines in (cause + lost(1) + lost(2), lost(1) + cause + lost(2), lost(2) + cause):
        log.write_text(lines + "torchrun: exitcode: 2\n")
        assert _complaint(log) == "cannot write metrics.jsonl: No space left on device"


def test_a_cause_that_found_no_room_in_the_log_is_not_replaced_by_its_consequence(tmp_path: Path) -> None:
    log = tmp_path / "ranks.log"
    for lines in (lost(1), ""):
        log.write_text(lines)
        assert "could not say why" in _complaint(log)
        assert "is the disk full?" in _complaint(log)


def test_a_log_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    assert "the folder that it wrote to is gone" in _complaint(tmp_path / "gone" / "ranks.log")
