"""The log of downlinks, and what is counted of frames that it has forgotten."""

from __future__ import annotations

from saddlebag.proto.frames import frames_of
from saddlebag.server.ledger import Traffic
from saddlebag.server.log import DownlinkLog


def logged(*rounds: int) -> tuple[DownlinkLog, dict[int, list[bytes]]]:
    log = DownlinkLog(2, 40)
    frames = {round_: list(frames_of([b"four"], epoch=0, round_=round_, sender=0)) for round_ in rounds}
    for round_ in rounds:
        log.append(round_, frames[round_])
    return log, frames


def test_a_frame_is_counted_once_as_payload_and_then_as_repeated() -> None:
    log, frames = logged(0)
    traffic, size = Traffic(), len(frames[0][0])
    for _ in range(2):
        log.sent(0, 0, frames[0], 0, traffic)
    assert (traffic.payload, traffic.framing, traffic.repeated, traffic.transport) == (4, size - 4, size, 2 * size)


def test_a_write_that_ends_when_an_epoch_has_begun_is_counted_and_harms_nobody() -> None:
    """gRPC says late that it has taken a frame; a worker without state has begun an epoch meanwhile, which clears the log."""
    log, frames = logged(0, 1)
    log.clear(2)
    for later in (False, True):
        if later:
            log.append(2, list(frames_of([b"five!"], epoch=1, round_=2, sender=0)))
        traffic = Traffic()
        log.sent(0, 1, frames[1], 0, traffic)
        assert (traffic.payload, traffic.repeated, traffic.transport) == (0, len(frames[1][0]), len(frames[1][0]))


def test_a_write_that_ends_when_the_log_has_forgotten_its_round_is_payload() -> None:
    """The worker has answered it before gRPC has said so, and rounds after it needed the room."""
    log, frames = logged(0, 1, 2, 3)
    assert log.start(4) > 0, "40 bytes hold no four rounds"
    traffic = Traffic()
    log.sent(0, 0, frames[0], 0, traffic)
    assert (traffic.payload, traffic.repeated, traffic.transport) == (4, 0, len(frames[0][0]))
