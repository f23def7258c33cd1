"""Folders that the library datasets saved: read where pyarrow is installed, refused in one line otherwise."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest

import saddlebag.launch.data.arrow as arrow_file
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.data.arrow import read_split, saved_splits
from saddlebag.launch.data.sentences import SentenceOptions, read_sentences
from saddlebag.launch.data.text import read_text

if TYPE_CHECKING:
    from pathlib import Path

needs_pyarrow = pytest.mark.skipif(not importlib.util.find_spec("pyarrow"), reason="pyarrow is not installed")


def save(folder: Path, **splits: dict[str, list[Any]]) -> Path:
    """As `save_to_disk` does, each split in two files."""
    import pyarrow as pa

    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    for split, columns in splits.items():
        (folder / split).mkdir()
        table = pa.table(columns)
        names = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
        (folder / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
        for number, name in enumerate(names):
            piece = table.slice(number * (len(table) // 2), len(table) // 2 if number == 0 else None)
            with pa.OSFile(str(folder / split / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(piece)
    return folder


@needs_pyarrow
def test_texts(tmp_path: Path) -> None:
    texts = ["", " = Title = \n", "one\ntwo\n", "three"]
    folder = save(tmp_path, test={"text": ["no"]}, train={"text": texts}, validation={"text": ["held"] * 2})
    found = read_text(str(folder))
    assert (found.train, found.valid) == (("= Title =", "one", "two", "three"), ("held", "held"))
    assert read_text(str(folder / "train")).valid == ("three",)


@needs_pyarrow
def test_sentences(tmp_path: Path) -> None:
    rows = {"idx": [0, 1, 2], "sentence": ["a", "b", "c"], "label": [1, 0, 1]}
    found = read_sentences(str(save(tmp_path, train=rows, validation=rows, test={**rows, "label": [-1] * 3})))
    assert (found.train, found.train_labels, found.dev_labels) == (("a", "b", "c"), (1, 0, 1), (1, 0, 1))


@needs_pyarrow
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sentence": ["a", "b"], "label": [0, -1]}, r"row 1: the label must be a word or a whole number below 1000, got '-1'"),
        ({"sentence": ["a", None], "label": [0, 1]}, "column 'sentence' must have no missing values, got 1"),
        ({"sentence": ["a", " "], "label": [0, 1]}, "row 1: the sentence is empty"),
        ({"review": ["a", "b"], "label": [0, 1]}, "column 'sentence' or 'text', has 'review', 'label'; data.text_column = "),
        ({"sentence": ["a", "b"], "label": [0.5, 1.5]}, "column 'label' must be of type int64 .*, got double"),
        ({"sentence": [None] * 2, "label": [0, 1]}, "column 'sentence' must be of type string or large_string, got null"),
    ],
)
def test_malformed_tables(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sentences(str(save(tmp_path, train=columns, validation=columns)))


@needs_pyarrow
def test_damaged_files(tmp_path: Path) -> None:
    folder = save(tmp_path, train={"text": ["a", "b"]}, validation={"text": ["c", "d"]})
    (folder / "train" / "data-00001-of-00002.arrow").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: cannot be read"):
        read_text(str(folder))
    (folder / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow: cannot be read"):
        read_text(str(folder))
    (folder / "dataset_dict.json").write_text('{"splits": ["validation"]}')
    with pytest.raises(DataError, match="must have a split 'train', has validation"):
        read_text(str(folder))


@needs_pyarrow
def test_what_a_file_says_of_itself_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets beyond the text, and bytes that are no UTF-8: followed blindly they would end the process or raise anything."""
    folder = save(tmp_path, train={"text": ["abcd", "efgh"]}, validation={"text": ["c", "d"]})
    file = folder / "train" / "data-00000-of-00002.arrow"
    whole = file.read_bytes()
    for before, after in ((b"abcd", b"\xff\xfe\xfd\xfc"), (b"\0\0\0\0\4\0\0\0", b"\0\0\0\0\0\0\0\x40")):
        assert before in whole
        file.write_bytes(whole[::-1].replace(before[::-1], after[::-1], 1)[::-1])  # the last of them: in the body
        with pytest.raises(DataError, match=r"data-00000-of-00002\.arrow: cannot be read"):
            read_text(str(folder))
    file.write_bytes(whole)
    monkeypatch.setattr(arrow_file, "_MOST_BYTES", 10)
    with pytest.raises(DataError, match="with it the split has more than 10 bytes"):
        read_text(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_dict.json", "[", "is no JSON"),
        ("dataset_dict.json", "[" * 100_000, "is no JSON"),
        ("dataset_dict.json", "[]", "must be a JSON object"),
        ("dataset_dict.json", '{"splits": 3}', "'splits' must be a list of names of folders, got 3"),
        ("dataset_dict.json", '{"splits": ["../elsewhere"]}', "'splits' must be a list of names of folders"),
        ("dataset_dict.json", r'{"splits": ["train\u0000"]}', "'splits' must be a list of names of folders"),
        ("dataset_dict.json", " " * (1 << 24) + "{}", "must be a JSON object of 16777216 bytes at most"),
        ("dataset_dict.json", '{"splits": ["train", "validation"]}', r"train.state\.json: cannot be read|pyarrow"),
    ],
)
def test_malformed_json(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, ConfigError), match=message):
        read_text(str(tmp_path))


@needs_pyarrow
@pytest.mark.parametrize("files", ["3", '[{"filename": "../../secret"}]', "[3]", '[{"filename": 3}]'])
def test_file_names_stay_in_their_folder(tmp_path: Path, files: str) -> None:
    (tmp_path / "state.json").write_text(f'{{"_data_files": {files}}}')
    with pytest.raises(DataError, match="'_data_files' must be a list of file names"):
        read_split(tmp_path, {"text": "string"})


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", refuse)
    (tmp_path / "state.json").write_text('{"_data_files": []}')
    assert saved_splits(tmp_path) == ()
    assert saved_splits(tmp_path / "elsewhere") is None
    with pytest.raises(ConfigError, match=r"Arrow files need the package pyarrow; pip install 'saddlebag\[arrow\]'"):
        read_text(str(tmp_path))


@needs_pyarrow
@pytest.mark.parametrize(
    ("labels", "classes"),
    [([True, False], (1, 0)), (["pos", "neg"], (1, 0)), (["3", "1"], (3, 1)), ([2, 0], (2, 0))],
)
def test_labels_of_any_kind_and_columns_of_any_name(tmp_path: Path, labels: list[Any], classes: tuple[int, ...]) -> None:
    columns = {"review": ["good", "bad"], "stars": labels}
    folder = str(save(tmp_path, train=columns, test=columns))
    found = read_sentences(folder, SentenceOptions(text_column="review", label_column="stars"))
    assert (found.train, found.train_labels) == (("good", "bad"), classes)
    assert read_text(folder, column="review").train == ("good", "bad")
    assert bool(found.notes) == (labels == ["pos", "neg"])
