"""The shared draws, word by word, against an implementation that shares no line with NumPy's."""

from __future__ import annotations

import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saddlebag.compression import EVERYONE, SERVER, Draws, Purpose, Stream, draws, stratified_subset, uniform_subset
from saddlebag.compression.kernels import plain
from saddlebag.compression.kernels.loader import compiled
from saddlebag.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[1] / "vectors" / "draws.json").read_text(encoding="utf-8"))
MASK = 2**64 - 1
KEY_TAG = int.from_bytes(b"Saddleba", "big")
BOTH_WAYS = pytest.mark.parametrize("ranked", [0, 1024], ids=["distinct", "ranked"])  # uniform_subset has two algorithms
KEYS = [
    (0, Purpose.COIN, 0, 0),
    (7, Purpose.SUPPORT, 3, 2),
    (2**64 - 1, Purpose.DATA, 10**12, EVERYONE),
    (1, Purpose.BATCH, 1, SERVER),
]


def philox4x64_10(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Salmon et al. 2011, section 3.3, with the constants of Random123's philox.h."""
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = ((second >> 64) ^ counter[1] ^ key[0], second & MASK, (first >> 64) ^ counter[3] ^ key[1], first & MASK)
        key = ((key[0] + 0x9E3779B97F4A7C15) & MASK, (key[1] + 0xBB67AE8584CAA73B) & MASK)
    return counter


def reference_words(seed: int, purpose: int, round_: int, worker: int, count: int, block: int = 0) -> list[int]:
    """NumPy raises the counter before it draws a block, hence the 1."""
    blocks = [philox4x64_10((block + i + 1, round_, worker, purpose), (seed, KEY_TAG)) for i in range(-(-count // 4))]
    return list(itertools.chain(*blocks))[:count]


# Random123 1.14, tests/kat_vectors: counter, key, output
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (
            " ".join(["f" * 16] * 4),
            " ".join(["f" * 16] * 2),
            "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
        ),
        (
            "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
            "452821e638d01377 be5466cf34e90c6c",
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    counter_4, key_2, expected_4 = (tuple(int(word, 16) for word in text.split()) for text in (counter, key, expected))
    assert philox4x64_10(counter_4, key_2) == expected_4
    before = (sum(word << 64 * i for i, word in enumerate(counter_4)) - 1) % 2**256  # NumPy raises it first
    before_4 = np.array([before >> 64 * i & MASK for i in range(4)], np.uint64)
    philox = np.random.Philox(key=np.array(key_2, np.uint64), counter=before_4)
    assert tuple(philox.random_raw(4).tolist()) == expected_4


@pytest.mark.parametrize("key", KEYS)
def test_words_are_philox(key: tuple[int, Purpose, int, int]) -> None:
    stream = Stream(*key)
    block = 0
    for count in (1, 4, 5, 0, 11):  # every call starts a block
        assert stream.words(count).tolist() == reference_words(*key, count, block)
        block += -(-count // 4)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden(case: dict[str, Any]) -> None:
    key = (case["seed"], Purpose[case["purpose"]], case["round"], case["worker"])
    words = Stream(*key).words(len(case["words"]))
    assert words.dtype == np.uint64
    assert [f"{word:016x}" for word in words.tolist()] == case["words"]
    assert [value.hex() for value in Stream(*key).uniforms(len(case["uniforms"])).tolist()] == case["uniforms"]
    for bound, values in case["below"].items():
        assert Stream(*key).below(int(bound), len(values)).tolist() == values
    for subset in case["strata"]:
        assert stratified_subset(Stream(*key), subset["dimension"], len(subset["index"])).tolist() == subset["index"]
    for subset in case["subsets"]:
        assert uniform_subset(Stream(*key), subset["dimension"], len(subset["index"])).tolist() == subset["index"]


@pytest.mark.parametrize("key", KEYS)
def test_uniforms_and_integers_are_exact_functions_of_the_words(key: tuple[int, Purpose, int, int]) -> None:
    words = reference_words(*key, 40)
    assert Stream(*key).uniforms(40).tolist() == [math.ldexp(word >> 11, -53) for word in words]
    for bound in (1, 2, 3, 1000, 2**31 + 1, 2**32 - 1):
        assert Stream(*key).below(bound, 40).tolist() == [word * bound >> 64 for word in words]


def test_streams_of_different_keys_differ() -> None:
    keys = itertools.product((0, 1, 2**63), Purpose, (0, 1, 2**40), (0, 1, SERVER, EVERYONE))
    first = [tuple(Stream(seed, purpose, round_, worker).words(4).tolist()) for seed, purpose, round_, worker in keys]
    assert len(set(itertools.chain(*first))) == 4 * len(first)


def test_draws_name_their_streams() -> None:
    mine = Draws(5, 9, 2)
    assert mine.own(Purpose.BATCH).words(4).tolist() == reference_words(5, Purpose.BATCH, 9, 2, 4)
    assert mine.common(Purpose.BATCH).words(4).tolist() == reference_words(5, Purpose.BATCH, 9, EVERYONE, 4)
    assert mine.of(3) == Draws(5, 9, 3)
    assert mine.of(2) is mine
    assert Draws(5, 9).worker == EVERYONE


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=r"seed must lie in \[0, 2\^64\)"):
        Draws(seed, 0)


def test_the_coin_is_one_for_everybody_and_has_its_probability() -> None:
    num_rounds, probability = 20_000, 0.125
    coins = [Draws(3, round_, worker=round_ % 5).coin(probability) for round_ in range(num_rounds)]
    assert coins == [Draws(3, round_).coin(probability) for round_ in range(num_rounds)]
    assert abs(sum(coins) - num_rounds * probability) <= 6 * math.sqrt(num_rounds * probability * (1 - probability))
    assert not Draws(3, 0).coin(0.0)
    assert Draws(3, 0).coin(1.0)


@BOTH_WAYS
def test_a_subset_is_sorted_distinct_and_of_its_size(ranked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_RANKED", ranked)
    for dimension in [*range(1, 25), 300]:
        for size in range(dimension + 1):
            index_K = uniform_subset(Stream(1, Purpose.SUPPORT, dimension, size), dimension, size)
            assert index_K.dtype == np.int64
            assert len(index_K) == size
            assert (np.diff(index_K) > 0).all()
            assert size == 0 or 0 <= index_K[0] <= index_K[-1] < dimension


@BOTH_WAYS
@pytest.mark.parametrize(("dimension", "size"), [(2, 1), (5, 2), (6, 5), (9, 4), (16, 8)])
def test_a_subset_is_uniform(ranked: int, dimension: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inclusions of coordinates and of pairs are binomial: six standard deviations, one false alarm in 5e8 counts."""
    monkeypatch.setattr(draws, "_RANKED", ranked)
    num_draws = 4000
    member_ND = np.zeros((num_draws, dimension))
    for round_ in range(num_draws):
        member_ND[round_, uniform_subset(Stream(11, Purpose.SUPPORT, round_, 0), dimension, size)] = 1.0
    count_DD = member_ND.T @ member_ND
    single, pair = size / dimension, size * (size - 1) / (dimension * (dimension - 1))
    for share, counts in ((single, np.diag(count_DD)), (pair, count_DD[np.triu_indices(dimension, 1)])):
        assert (np.abs(counts - num_draws * share) <= 6 * math.sqrt(num_draws * share * (1 - share))).all()


def test_a_large_subset_equals_its_definition() -> None:
    dimension, size = 5000, 1200
    key = (4, Purpose.SUPPORT, 8, 1)
    block, drawn = 0, []
    for count in (size + size // 2 + 8, *[size // 4 + 8] * 20):
        drawn += [word * dimension >> 64 for word in reference_words(*key, count, block)]
        block += -(-count // 4)
    distinct = list(dict.fromkeys(drawn))
    assert uniform_subset(Stream(*key), dimension, size).tolist() == sorted(distinct[:size])
    complement = set(range(dimension)) - set(distinct[:size])
    assert uniform_subset(Stream(*key), dimension, dimension - size).tolist() == sorted(complement)


def strata_by_definition(key: tuple[int, Purpose, int, int], dimension: int, size: int) -> list[int]:
    halves = [half for word in reference_words(*key, -(-size // 2)) for half in (word & 0xFFFF_FFFF, word >> 32)]
    edges = [i * dimension // size for i in range(size + 1)]
    return [edge + (half * (end - edge) >> 32) for half, (edge, end) in zip(halves, itertools.pairwise(edges), strict=False)]


@pytest.mark.parametrize(
    ("dimension", "size"),
    [
        (1, 1),
        (9, 9),
        (10, 3),
        (4100, 1023),
        (40_000, 4096),
        (409_600, 4096),
        (1_007_000, 1007),
        (2_000_003, 1537),
        (2**40 + 7, 1000),
        (2**40, 513),
    ],
)
@pytest.mark.parametrize("name", ["plain", "compiled"])
def test_strata_equal_their_definition(name: str, dimension: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_STRATA", 1024)
    kernels = {"plain": plain, "compiled": compiled()}[name]
    if kernels is None:
        pytest.skip("no numba")
    for key in KEYS:
        stream = Stream(*key)
        index_K = kernels.strata(stream, dimension, size)
        assert index_K.dtype == np.int64
        assert index_K.tolist() == strata_by_definition(key, dimension, size)
        used = (size + 7) // 8  # what is drawn next does not depend on the kernel
        assert stream.words(4).tolist() == reference_words(*key, 4, used)


def test_strata_choose_every_coordinate_of_a_run_alike() -> None:
    """Runs of 3 and 4 coordinates; counts within six standard deviations."""
    dimension, size, num_draws = 10, 3, 6000
    count_D = np.zeros(dimension)
    for round_ in range(num_draws):
        count_D[stratified_subset(Stream(5, Purpose.SUPPORT, round_, 1), dimension, size)] += 1
    share_D = np.repeat([1 / 3, 1 / 3, 1 / 4], [3, 3, 4])
    assert (np.abs(count_D - num_draws * share_D) <= 6 * np.sqrt(num_draws * share_D * (1 - share_D))).all()


@pytest.mark.parametrize(("dimension", "size"), [(2**62, 2), (2**31, 1), (2**33, 2**31)])
def test_strata_beyond_64_bit_arithmetic_are_refused(dimension: int, size: int) -> None:
    with pytest.raises(ConfigError, match="exceeds 64-bit arithmetic"):
        stratified_subset(Stream(0, Purpose.SUPPORT, 0, 0), dimension, size)


def test_threads_do_not_disturb_each_other() -> None:
    def some_words(worker: int) -> list[list[int]]:
        streams = [Stream(1, Purpose.ROUNDING, round_, worker) for round_ in range(20)]
        return [stream.words(7).tolist() for _ in range(10) for stream in streams]

    workers = range(16)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(some_words, workers)) == [some_words(worker) for worker in workers]


def test_steps_inside_a_round_draw_for_themselves() -> None:
    draws = Draws(3, 5, 1)
    assert draws.within(0) == draws
    first = {draws.within(step).own(Purpose.BATCH).words(1).item() for step in range(100)}
    assert len(first) == 100
    assert draws.within(1) != Draws(3, 6, 1).within(0)
    golden = [draws.within(step).own(Purpose.BATCH).words(1).item() for step in (0, 1, 65535)]
    assert golden == [10587949508750128922, 257831002926409796, 13079357106847912293]  # for ever
    for step, round_ in ((-1, 0), (2**16, 0), (1, 2**48)):
        with pytest.raises(ConfigError, match="step must lie in"):
            Draws(0, round_).within(step)
