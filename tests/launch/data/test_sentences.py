"""Reading labelled sentences: what GLUE publishes, and a clear refusal by line of everything else."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.sentences import read_sentences

SHARED = Path(__file__).parents[4] / "shared" / "data" / "sst2"
HEADER = "sentence\tlabel\n"


def test_a_folder_as_glue_publishes_it(tmp_path: Path) -> None:
    train = HEADER + 'a "quoted \t1\r\nfine \t0\n\n' + "caf\N{LATIN SMALL LETTER E WITH ACUTE}\t2\n"
    (tmp_path / "train.tsv.xz").write_bytes(lzma.compress(train.encode()))
    (tmp_path / "dev.tsv").write_text(HEADER + "held out\t1\n")
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tno label\n")
    found = read_sentences(str(tmp_path))
    assert found.train == ('a "quoted', "fine", "caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert found.train_labels == (1, 0, 2)
    assert (found.dev, found.dev_labels, found.num_classes) == (("held out",), (1,), 3)


def test_one_file_holds_out_every_tenth_sentence(tmp_path: Path) -> None:
    path = tmp_path / "reviews.tsv"
    path.write_text(HEADER + "".join(f"number {number}\t{number % 2}\n" for number in range(20)))
    found = read_sentences(str(path))
    assert (found.dev, found.dev_labels) == (("number 0", "number 10"), (0, 0))
    assert len(found.train) == len(found.train_labels) == 18
    assert found.name == "reviews"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows; is the file empty"),
        ("text,label\nfine,1\n", "column 'sentence' or 'text', has 'text,label'; data.text_column = "),
        (HEADER, "no rows; is the file empty"),
        (HEADER + "one\t1\n", "must hold two sentences"),
        (HEADER + "one\t1\ntwo\n", "line 3: 2 values are expected, got 1"),
        (HEADER + "one\t1\ttoo\n", "line 2: 2 values are expected, got 3"),
        (HEADER + "\n\t1\n", "line 3: the sentence is empty"),
        (HEADER + "one\t-1\n", "line 2: the label must be a word or a whole number below 1000, got '-1'"),
        (HEADER + "one\t1\ntwo\tgood\n", "labels must all be whole numbers or all be words, got 'good' among numbers"),
        (HEADER + 'one\t1\n"two\tthree"\t1\n', "line 3: 2 values are expected, got 3; .* data.quotes = "),
        (HEADER + "one\t1000\n", "got '1000'"),
        (HEADER + "one\t" + "9" * 5000 + "\n", "got '9{30}...'"),
        (HEADER + "one\t\n", "got ''"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.tsv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as refused:
        read_sentences(str(path))
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < len(str(path)) + 200


def test_a_bundled_set_is_no_path() -> None:
    with pytest.raises(ConfigError, match=r"data\.source must be the path of a file of sentences"):
        read_sentences("digits")


@pytest.mark.skipif(not SHARED.is_dir(), reason="SST-2 is not here")
def test_sst2() -> None:
    found = read_sentences(str(SHARED))
    assert (len(found.train), sum(found.train_labels)) == (67349, 37569)
    assert (len(found.dev), sum(found.dev_labels), found.num_classes) == (872, 444, 2)
