"""Members and server of secure aggregation, joined in memory: sums, dropouts at every step, lies, and what the server sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlebag.errors import ConfigError, LocalProtocolError, PeerLost, RemoteProtocolError
from saddlebag.proto.secure.aggregation import Aggregation
from saddlebag.proto.secure.member import Member
from saddlebag.proto.secure.messages import Step, encode_ranks, encode_rows, read_ranks, read_rows, read_table
from saddlebag.proto.secure.primitives import own_mask
from saddlebag.proto.secure.ring import Ring
from tests.proto.secure.rounds import Round, entropy_of, some_levels


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 8),
    size=st.integers(0, 40),
    most=st.sampled_from([1, 7, 127, 30_000]),
    seed=st.integers(0, 2**32),
    drops=st.dictionaries(st.integers(0, 7), st.sampled_from(Step), max_size=3),
    data=st.data(),
)
def test_the_sum_is_that_of_those_whose_vector_has_arrived_whoever_drops_out_when(count, size, most, seed, drops, data):
    levels = some_levels(count, size, most, seed)
    drops = dict([(rank, when) for rank, when in drops.items() if rank < count][: count - 1])  # somebody stays
    threshold = data.draw(st.integers(1, max(1, count - len(drops))))
    sums = Round(levels, threshold=threshold, most=most, seed=seed).run(drops)
    stayed = [rank for rank in levels if drops.get(rank, 99) > Step.MASKED]
    assert np.array_equal(sums, sum((levels[rank] for rank in stayed), np.zeros(size, np.int64)))


@pytest.mark.parametrize("step", Step)
def test_a_fifth_of_the_members_may_drop_out_at_every_step(step):
    levels = some_levels(10, 1000, 7)
    run = Round(levels, threshold=6, most=7)
    sums = run.run({3: step, 8: step})
    stayed = [rank for rank in levels if step is Step.UNMASK or rank not in (3, 8)]
    assert run.server.arrived == tuple(stayed)
    assert np.array_equal(sums, sum(levels[rank] for rank in stayed))


def test_the_extremes_of_all_members_fit():
    for most in (1, 7, 127):
        for sign in (-1, 1):
            levels = {rank: np.full(3, sign * most) for rank in range(10)}
            assert (Round(levels, threshold=5, most=most).run() == 10 * sign * most).all()


@pytest.mark.parametrize("step", Step)
def test_a_member_that_is_given_up_before_the_others_have_spoken_disturbs_nobody(step):
    levels = some_levels(5, 20, 7)
    run = Round(levels, threshold=3, most=7)
    for each in Step:
        if each is step:
            run.server.drop(4)
        run.step(silent=[4] if step <= each else [])
    gone = step is not Step.UNMASK
    assert np.array_equal(run.server.levels(), sum(levels[rank] for rank in range(4 if gone else 5)))


@pytest.mark.parametrize("step", Step)
def test_too_few_end_the_round_and_say_at_which_step(step):
    run = Round(some_levels(5, 4, 7), threshold=4, most=7)
    with pytest.raises(PeerLost, match=f"needs 4 workers, and 3 have sent {step.name.lower()}"):
        run.run({0: step, 4: step})


def test_a_vector_that_comes_late_is_left_aside_and_stays_masked_by_its_own_secret():
    levels = some_levels(4, 2000, 7)
    run = Round(levels, threshold=3, most=7)
    run.step()
    run.step()
    late = run.says(Step.MASKED, 2)
    run.step(silent=[2])
    run.server.take(Step.MASKED, 2, late)
    run.step(silent=[2])
    assert np.array_equal(run.server.levels(), levels[0] + levels[1] + levels[3])
    # The server now knows the key of worker 2, hence all masks but the one of its own: what is left must not be the levels.
    seen = run.ring.decode(late)
    for other in (0, 1, 3):
        purpose_mask = run.members[2]._shared(run.members[2]._masking, other, 32, _purpose(run, other))
        seen = run.ring.with_mask(seen, purpose_mask, -1 if other > 2 else 1)
    with pytest.raises(RemoteProtocolError, match="do not cancel"):
        run.ring.levels(seen, 1)
    own = run.ring.with_mask(seen, own_mask(run.members[2]._own, run.ring.context), -1)
    assert np.array_equal(run.ring.levels(own, 1), levels[2])


def _purpose(run, other):
    from saddlebag.proto.secure.member import pair_purpose

    return pair_purpose(run.ring.context, 2, other)


# -- what the server sees --------------------------------------------------------------------------------------------------


def _chi_square(values, cells):
    counts = np.bincount(values, minlength=cells)
    expected = len(values) / cells
    return float(((counts - expected) ** 2 / expected).sum())


def test_the_servers_view_of_one_member_is_uniform_whatever_it_sends():
    """4,096 seeds' first coordinates, in 32 cells: 31 degrees of freedom, mean 31, deviation 7.9; 80 is 6 deviations away."""
    for level in (0, 7):
        seen = []
        for seed in range(128):
            run = Round({rank: np.full(32 * 7, level) for rank in range(3)}, threshold=2, most=7, seed=seed)
            run.run()
            seen.append(run.ring.decode(run.sent[Step.MASKED, 1]).word_W)
        assert (run.ring.shared, run.ring.width) == (7, 38)
        words = np.concatenate(seen)
        for bit in (0, 16, 33):  # five bits at the bottom, in the middle, at the top
            assert _chi_square(words >> bit & 31, 32) < 80
        assert _chi_square(np.stack(seen)[:, 0] & 7, 8) < 40  # one word over the seeds: 7 degrees of freedom
    assert _chi_square(np.full(4096, 7), 32) > 80  # the test can fail


def test_two_colluding_members_below_the_threshold_learn_nothing_of_a_third():
    """All that the server and members 0 and 1 hold fits every vector of member 2 whose sum with member 3's is the same."""
    views = []
    for shift in (0, 5):
        seen = []
        for seed in range(128):
            levels = {rank: np.zeros(32 * 6, np.int64) for rank in range(4)}
            levels[2], levels[3] = levels[2] + shift, levels[3] - shift
            run = Round(levels, threshold=3, most=7, seed=seed)
            run.run()
            member = run.members[2]
            known = run.ring.decode(run.sent[Step.MASKED, 2])
            known = run.ring.with_mask(known, own_mask(member._own, run.ring.context), -1)  # the server has put b_2 together
            for other in (0, 1):  # and the colluders know their masks with member 2
                key = member._shared(member._masking, other, 32, _purpose(run, other))
                known = run.ring.with_mask(known, key, 1)
            seen.append(known.word_W & (2**run.ring.width - 1))
        views.append(np.concatenate(seen))
    for view in views:
        assert len(view) == 4096
        assert _chi_square(view >> 30, 32) < 80  # without member 3's secret it is uniform still


def test_two_shares_below_the_threshold_say_nothing_of_the_secret():
    """Whatever the secret, two of three shares are uniform: first bytes over 2,048 seeds, 255 degrees of freedom, 22.6 each."""
    from saddlebag.proto.secure.sharing import split

    for secret in (bytes(16), b"\xff" * 16):
        first = np.array([split(secret, range(4), 3, entropy_of((secret, seed)))[1][0] for seed in range(2048)])
        assert _chi_square(first, 256) < 255 + 6 * 22.6


def test_masks_secrets_and_sealed_shares_are_new_in_every_round():
    sent = [Round(some_levels(3, 8, 7), threshold=2, most=7, seed=seed) for seed in (1, 2)]
    for run in sent:
        run.run()
    for step in Step:
        assert sent[0].sent[step, 0] != sent[1].sent[step, 0]


def test_a_sealing_key_of_earlier_rounds_seals_every_attempt_with_another_key():
    """Two attempts at one round, with the same keys for sealing: shares of the one do not open in the other."""
    from saddlebag.proto.secure.primitives import KeyPair

    pairs = {rank: KeyPair.new(entropy_of(rank)) for rank in range(3)}
    runs = [Round(some_levels(3, 4, 7), threshold=2, most=7, seed=seed) for seed in (1, 2)]
    for run in runs:
        for rank, member in run.members.items():
            member._sealing = pairs[rank]
        run.step()
        run.step()
    old, new = (run.told for run in runs)
    with pytest.raises(RemoteProtocolError, match="it was not sealed with this round's key"):
        runs[1].members[0].masked(old[0], runs[1].levels[0])
    assert runs[1].members[1].masked(new[1], runs[1].levels[1])


# -- who lies --------------------------------------------------------------------------------------------------------------


def test_a_key_that_leads_everybody_to_one_secret_is_refused_by_name():
    def zero_keys(step, rank, data):
        return bytes(64) if (step, rank) == (Step.KEYS, 1) else data

    with pytest.raises(RemoteProtocolError, match=r"worker 1's keys: it is no public key of X25519"):
        Round(some_levels(3, 4, 7), threshold=2, most=7, change=zero_keys).run()


def test_the_round_survives_a_member_with_a_wrong_key_that_is_dropped():
    levels = some_levels(4, 9, 7)
    run = Round(levels, threshold=3, most=7)
    with pytest.raises(RemoteProtocolError, match="worker 1's keys"):
        run.server.take(Step.KEYS, 1, bytes(64))
    assert np.array_equal(run.run({1: Step.KEYS}), levels[0] + levels[2] + levels[3])


def test_shares_of_another_round_are_refused_by_name_by_whom_they_are_for():
    old = Round(some_levels(3, 4, 7), threshold=2, most=7, seed=1, context=b"round 1")
    old.run()

    def replayed(step, rank, data):
        return old.sent[step, rank] if (step, rank) == (Step.SHARES, 1) else data

    run = Round(some_levels(3, 4, 7), threshold=2, most=7, seed=2, context=b"round 2", change=replayed)
    with pytest.raises(RemoteProtocolError, match=r"worker 1's shares for worker 0: it was not sealed with this round's key"):
        run.run()


@pytest.mark.parametrize("liar", [0, 2, 4])
def test_a_wrong_share_is_named_and_the_round_survives_where_others_are_enough(liar):
    def wrong(step, rank, data):
        return bytes(17) + data[17:] if (step, rank) == (Step.UNMASK, liar) else data

    levels = some_levels(5, 6, 7)
    run = Round(levels, threshold=3, most=7, change=wrong)
    assert np.array_equal(run.run(), sum(levels.values()))
    assert all(rank == liar for rank in run.server.refused)  # a share that was not needed is not looked at
    assert liar != 0 or run.server.refused[0] == "worker 0's share of worker 0's secret is wrong"


def test_a_wrong_share_ends_the_round_by_name_where_there_are_no_others():
    def wrong(step, rank, data):
        return bytes(17) + data[17:] if (step, rank) == (Step.UNMASK, 1) else data

    with pytest.raises(RemoteProtocolError, match="the shares of worker 0's secret do not fit"):
        Round(some_levels(3, 6, 7), threshold=3, most=7, change=wrong).run()


def test_a_mask_that_does_not_cancel_is_seen_at_any_size():
    def changed(step, rank, data):
        return bytes((data[0] ^ 1,)) + data[1:] if (step, rank) == (Step.MASKED, 1) else data

    for size in (1, 2, 500):
        with pytest.raises(RemoteProtocolError, match="masks do not cancel: one of workers 0, 1, 2 has not masked"):
            Round(some_levels(3, size, 7), threshold=2, most=7, change=changed).run()


def test_a_member_that_says_something_else_the_second_time_is_refused_and_a_repetition_is_not():
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    run.server.take(Step.KEYS, 0, keys := run.says(Step.KEYS, 0))
    run.server.take(Step.KEYS, 0, keys)
    with pytest.raises(RemoteProtocolError, match="worker 0 has sent other keys in this round before"):
        run.server.take(Step.KEYS, 0, bytes(64))
    assert run.server.missing() == [1, 2]


def test_who_has_not_taken_the_step_before_is_not_expected():
    run = Round(some_levels(4, 4, 7), threshold=2, most=7)
    run.step(silent=[3])
    with pytest.raises(RemoteProtocolError, match="worker 3 is not expected to send shares"):
        run.server.take(Step.SHARES, 3, b"")


@settings(max_examples=60, deadline=None)
@given(step=st.sampled_from(Step), data=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_by_name(step, data):
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    while run.server.step is not step:
        run.step()
    try:
        run.server.take(step, 1, data)
    except RemoteProtocolError as error:
        assert "worker 1's" in str(error)  # noqa: PT017


@settings(max_examples=60, deadline=None)
@given(step=st.sampled_from([Step.SHARES, Step.MASKED, Step.UNMASK]), data=st.binary(max_size=300))
def test_a_member_takes_or_refuses_any_bytes_of_the_server(step, data):
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    while run.server.step is not step:
        run.step()
    run.told[1] = data
    try:
        run.says(step, 1)
    except RemoteProtocolError as error:
        assert str(error)  # noqa: PT017


# -- what a member refuses -------------------------------------------------------------------------------------------------


def test_a_member_unmasks_once_and_never_below_the_threshold():
    run = Round(some_levels(4, 4, 7), threshold=3, most=7)
    for _ in range(3):
        run.step()
    with pytest.raises(RemoteProtocolError, match="vectors of 2 workers; worker 0 goes on from 3"):
        run.members[0].unmask(encode_ranks([0, 1]))
    run.members[1].unmask(encode_ranks([0, 1, 2]))
    with pytest.raises(LocalProtocolError, match="has been asked before"):
        run.members[1].unmask(encode_ranks([0, 1, 3]))


def test_a_member_takes_steps_in_order_and_each_once():
    member = Member(0, threshold=2, ring=Ring(4, 7, 3, b""), entropy=entropy_of(0))
    with pytest.raises(LocalProtocolError, match="step shares of member 0 where keys is due"):
        member.shares(b"")
    member.keys()
    with pytest.raises(LocalProtocolError, match="step keys of member 0 where shares is due"):
        member.keys()


def test_a_server_that_swaps_a_members_keys_is_found_out():
    run = Round(some_levels(3, 4, 7), threshold=2, most=7)
    run.step()
    run.told[0] = encode_rows({**read_rows(run.told[0]), 0: bytes(64)})
    with pytest.raises(RemoteProtocolError, match="tells other keys of worker 0"):
        run.says(Step.SHARES, 0)


def test_levels_that_do_not_fit_are_refused():
    ring = Ring(4, 7, 3, b"")
    for level_D in (np.array([8, 0, 0, 0]), np.zeros(3, np.int64)):
        with pytest.raises(ConfigError, match="must be 4 of magnitude at most 7"):
            ring.member(level_D)
    with pytest.raises(ConfigError, match="exceed 32 bits a coordinate"):
        Ring(4, 2**30, 100, b"")


def test_ranks_and_tables_that_are_none_are_refused():
    for data in (b"\x02\x01\x01", b"\x02\x01\x00", b"\x01", b"\x00\x00"):
        with pytest.raises(RemoteProtocolError):
            read_ranks(data)
    with pytest.raises(RemoteProtocolError, match="cut short"):
        read_table(b"\x01\x00ab", 3)


def test_memory_of_the_server_does_not_grow_with_the_vectors_that_have_come():
    run = Round(some_levels(6, 5000, 7), threshold=3, most=7)
    for _ in range(3):
        run.step()
    held = [len(raw) for said in run.server._said.values() for raw in said.values()]
    assert max(held) < 1000 < run.ring.num_bytes


def test_a_repeated_vector_counts_once():
    levels = some_levels(3, 50, 7)
    run = Round(levels, threshold=2, most=7)
    run.step()
    run.step()
    run.server.take(Step.MASKED, 1, raw := run.says(Step.MASKED, 1))
    run.server.take(Step.MASKED, 1, raw)
    run.change = lambda step, rank, data: data
    for rank in (0, 2):
        run.server.take(Step.MASKED, rank, run.says(Step.MASKED, rank))
    run.told = run.server.close()
    run.step()
    assert np.array_equal(run.server.levels(), sum(levels.values()))


def test_the_server_is_no_member_of_more_than_it_says():
    server = Aggregation([0, 1, 2], threshold=2, ring=Ring(4, 7, 3, b""))
    with pytest.raises(RemoteProtocolError, match="worker 7 is not expected"):
        server.take(Step.KEYS, 7, bytes(range(64)))
