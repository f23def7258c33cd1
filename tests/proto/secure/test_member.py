"""A member whose process ends between two steps goes on in another one."""

import numpy as np
import pytest

from saddlebag.errors import LocalProtocolError, RemoteProtocolError
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step
from tests.proto.secure.rounds import Round, some_levels


def test_members_that_are_captured_and_restored_between_all_steps_give_the_same_sum():
    levels = some_levels(5, 30, 7)
    run = Round(levels, threshold=3, most=7)
    for step in Step:
        run.step(silent=[4] if step >= Step.MASKED else [])
        ways = {"threshold": 3, "ring": run.ring}
        run.members = {rank: Member.restored(member.capture(), rank, **ways) for rank, member in run.members.items()}
    assert np.array_equal(run.server.levels(), sum(levels[rank] for rank in range(4)))


def test_what_was_captured_keeps_its_step_and_gives_no_second_share():
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    for _ in range(3):
        run.step()
    member = run.members[0]
    before = member.capture()
    member.unmask(run.told[0])
    after = Member.restored(member.capture(), 0, threshold=2, ring=run.ring)
    with pytest.raises(LocalProtocolError, match="nothing to unmask"):
        after.unmask(run.told[0])
    with pytest.raises(LocalProtocolError, match="step keys of member 0 where unmask is due"):
        Member.restored(before, 0, threshold=2, ring=run.ring).keys()


@pytest.mark.parametrize("cut", [0, 50, -2, -1])
def test_bytes_that_capture_did_not_give_are_refused(cut):
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    run.step()
    data = run.members[0].capture()
    with pytest.raises(RemoteProtocolError):
        Member.restored(data[:cut], 0, threshold=2, ring=run.ring)
