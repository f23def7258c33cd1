"""Word pieces: the same on every machine, special ones in their places, rows as networks want them."""

from __future__ import annotations

import builtins
import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from saddlebag.algorithms.networks.texts.vocabulary import CLS, MASK, PAD, SEP, SPECIAL, UNKNOWN, Vocabulary, require
from saddlebag.errors import ConfigError

pytest.importorskip("tokenizers")
RNG = np.random.default_rng(0)
LETTERS = np.array(list("abcdefghij"))
LINES = tuple(" ".join("".join(RNG.choice(LETTERS, size=RNG.integers(1, 7))) for _ in range(20)) for _ in range(50))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.learn(LINES, 150)


def test_special_pieces_have_alberts_numbers(vocabulary: Vocabulary) -> None:
    assert vocabulary.size == 150
    numbers = [vocabulary.tokenizer.token_to_id(piece) for piece in SPECIAL]
    assert numbers == [PAD, UNKNOWN, CLS, SEP, MASK] == [0, 1, 2, 3, 4]
    ids = vocabulary.tokenizer.encode("Ab <unk> \N{SNOWMAN}").ids
    assert (ids[0], ids[-1], ids.count(UNKNOWN)) == (CLS, SEP, 2)
    assert (
        vocabulary.tokenizer.decode(vocabulary.tokenizer.encode("ABCD \N{LATIN SMALL LETTER A WITH ACUTE}bc").ids) == "abcd abc"
    )


def test_a_large_alphabet_is_cut_alike_everywhere() -> None:
    """Of equally frequent letters the first by code stay; the others are unknown."""
    letters = [chr(0x4E00 + number) for number in range(200)]
    vocabulary = Vocabulary.learn(letters, 100)
    known = [letter for letter in letters if vocabulary.tokenizer.token_to_id(letter) is not None]
    assert known == letters[:24]  # a quarter, less the mark of a word's beginning


def test_another_process_learns_the_same_bits(vocabulary: Vocabulary) -> None:
    script = (
        "import hashlib, sys; from saddlebag.algorithms.networks.texts.vocabulary import Vocabulary\n"
        "lines = sys.stdin.read().split(chr(10))\n"
        "print(hashlib.sha256(Vocabulary.learn(lines, 150).tokenizer.to_str().encode()).hexdigest())"
    )
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "7"}
    command: list[str] = [sys.executable, "-c", script]
    ran = subprocess.run(command, input="\n".join(LINES), capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == hashlib.sha256(vocabulary.tokenizer.to_str().encode()).hexdigest()


def test_packing_keeps_every_token_but_the_rest(vocabulary: Vocabulary) -> None:
    rows_NT = vocabulary.pack(LINES, 16)
    assert rows_NT.dtype == np.int32
    assert (rows_NT[:, 0] == CLS).all()
    assert (rows_NT[:, -1] == SEP).all()
    stream = [number for line in LINES for number in [*vocabulary.tokenizer.encode(line, add_special_tokens=False).ids, SEP]]
    assert rows_NT[:, 1:-1].ravel().tolist() == stream[: len(stream) // 14 * 14]
    assert vocabulary.pack((), 16).shape == (0, 16)


def test_sentences_are_padded_and_cut(vocabulary: Vocabulary) -> None:
    short, long = vocabulary.rows(["a", " ".join(LINES)], 8)
    assert short[0] == CLS
    assert short[2:].tolist() == [SEP, *[PAD] * 5]
    assert (long[0], long[-1]) == (CLS, SEP)
    assert (long != PAD).all()


def test_rows_are_shown_as_people_read_them(vocabulary: Vocabulary) -> None:
    (row_T,) = vocabulary.rows(["ABC <unk> /de fgh"], 24)
    assert vocabulary.shown(row_T) == "abc <unk> <unk>de fgh"  # no slash in this alphabet
    packed_T = vocabulary.pack(["abc", "de", "fgh"], 20)
    assert not len(packed_T)
    stream_T = vocabulary.pack(["abc", "de"] * 20, 20)[0]
    assert vocabulary.shown(stream_T).startswith("abc / de / abc / ")
    right, wrong = 1, int(np.flatnonzero(stream_T == SEP)[0])
    found = vocabulary.shown(stream_T, {right: int(stream_T[right]), wrong: int(stream_T[1])})
    pieces = [
        vocabulary.tokenizer.id_to_token(int(number)).removeprefix("\N{LOWER ONE EIGHTH BLOCK}") for number in stream_T[1:wrong]
    ]
    assert found.startswith(f"[{pieces[0]}]{''.join(pieces[1:])} [{pieces[0]}, not [SEP]] de")


def test_a_long_corpus_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("saddlebag.algorithms.networks.texts.vocabulary._LEARNED_CHARACTERS", 1000)
    from saddlebag.algorithms.networks.texts import vocabulary as module

    seen = list(module._spread(LINES))
    assert 0 < sum(map(len, seen)) <= 1200
    assert set(seen) <= set(LINES)
    assert len(module._spread(["x" * 5000])[0]) == 1000


def test_a_bad_size_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="vocabulary must have at least 64 pieces, got 3"):
        Vocabulary.learn(LINES, 3)
    original = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("transformers"):
            raise ModuleNotFoundError(name=name)
        return original(name, *rest)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(
        ConfigError, match=r"albert_mlm needs the package transformers; pip install 'saddlebag\[transformers\]'"
    ):
        require("transformers", "albert_mlm")
