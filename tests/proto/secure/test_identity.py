"""Signed keys: a server that hands out keys of its own is found out by every member before a secret is shared."""

import numpy as np
import pytest

from saddlebag.errors import ConfigError, RemoteProtocolError
from saddlebag.proto.secure.identity import SIGNED_BYTES, Identity, read_signers
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import KEYS_BYTES, Step, encode_rows, read_rows
from saddlebag.proto.secure.primitives import public_of
from tests.proto.secure.rounds import Round, some_levels

SECRETS = [bytes([n + 1]) * 32 for n in range(4)]
SIGNERS = tuple(map(public_of, SECRETS))


def signed_round(ranked=True, order=(0, 1, 2, 3), context=b"round"):
    run = Round(some_levels(4, 10, 7), threshold=3, most=7, context=context)
    for rank, number in enumerate(order):
        identity = Identity(SECRETS[number], SIGNERS, ranked)
        run.members[rank] = Member(rank, threshold=3, ring=run.ring, identity=identity)
    return run


def test_a_round_of_signed_keys_gives_the_sum():
    run = signed_round()
    assert np.array_equal(run.run(), sum(run.levels.values()))
    assert len(run.sent[Step.KEYS, 0]) == KEYS_BYTES + SIGNED_BYTES


def test_any_signer_may_be_any_member_where_ranks_are_not_known():
    run = signed_round(ranked=False, order=(2, 0, 3, 1))
    assert np.array_equal(run.run(), sum(run.levels.values()))


def _lies(change):
    """What member 0 says to a roster in which the server has changed the row of worker 2."""
    run = signed_round()
    run.step()
    rows = read_rows(run.told[0])
    rows[2] = change(rows)
    return run.members[0].shares(encode_rows(rows))


def test_keys_that_the_server_has_replaced_are_refused_by_name():
    stranger = Member(2, threshold=3, ring=signed_round().ring)
    with pytest.raises(RemoteProtocolError, match="worker 2's keys are not signed by the key that the run knows"):
        _lies(lambda rows: stranger.keys() + rows[2][KEYS_BYTES:])
    with pytest.raises(RemoteProtocolError, match=r"worker 2's keys are not signed$"):
        _lies(lambda rows: rows[2][:KEYS_BYTES])
    with pytest.raises(RemoteProtocolError, match="worker 2's keys are not signed by"):  # another worker's, signed by that one
        _lies(lambda rows: rows[1])


def test_signed_keys_of_another_round_are_refused():
    old = signed_round(context=b"the round before")
    old.step()
    with pytest.raises(RemoteProtocolError, match="worker 2's keys are not signed by"):
        _lies(lambda rows: read_rows(old.told[0])[2])


def test_a_signer_cannot_be_two_members():
    run = signed_round(ranked=False, order=(0, 1, 2, 2))
    run.step()
    with pytest.raises(RemoteProtocolError, match="workers 2 and 3 have keys signed by one and the same signer"):
        run.members[0].shares(run.told[0])


def test_signing_keys_that_the_run_does_not_know_are_refused():
    with pytest.raises(ConfigError, match="is not among the 4 signers"):
        Identity(bytes(32), SIGNERS)
    with pytest.raises(ConfigError, match="that of worker 1, and this is worker 0"):
        Identity(SECRETS[1], SIGNERS).signed(b"round", 0, bytes(64))
    assert "secret" not in repr(Identity(SECRETS[0], SIGNERS))


@pytest.mark.parametrize("keys", [["zz"], ["00" * 31], ["00" * 32, "00" * 32], [7]])
def test_lists_of_signers_are_checked(keys):
    with pytest.raises(ConfigError, match="signer"):
        read_signers(keys)


def test_keys_of_a_length_between_are_refused_by_the_server():
    run = signed_round()
    with pytest.raises(RemoteProtocolError, match=r"worker 0's keys: it must have 64 bytes, or 66 more"):
        run.server.take(Step.KEYS, 0, run.members[0].keys()[:-1])
