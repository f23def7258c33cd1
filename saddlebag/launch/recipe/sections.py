"""The parts of a recipe, one frozen dataclass for each table."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saddlebag.errors import ConfigError, DataError, check_choice
from saddlebag.launch.recipe.table_options import TableOptions, default_of
from saddlebag.proto.ordinary import ordinary

if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = [
    "BUNDLED",
    "CheckpointSection",
    "CompressorSection",
    "DataSection",
    "MethodSection",
    "OutputSection",
    "ProblemSection",
    "parse_step_size",
    "weights_fingerprint",
]

BUNDLED = ("breast_cancer", "diabetes", "digits")
"""The data sets that scikit-learn brings; any other source is a path."""

_ALWAYS = ("source", "split", "num_features", "target", "drop")  # keys of data that are written out, also by default
_OF_WEIGHTS = ("config.json", "model.safetensors.index.json", "tokenizer.json")
_STEP = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)\s*/\s*L")
_AUTO = re.compile(r"auto from (?=[^e]*[1-9])\d+\.?\d*(?:e[+-]?\d{1,2})?")
_FILES = ("plot.png", "recipe.toml", "result.json")  # of a run, beside the folders of its methods
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")


def parse_step_size(value: object, path: str) -> float | str:
    """A step size as recipes write it: a number, "theory", "estimate", "auto", or a multiple of 1/L such as "0.35/L".

    "auto from 0.01" names the first step of the automatic rule.

    Raises:
        ConfigError: it is none of these, or not positive.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    if isinstance(value, str):
        match = _STEP.fullmatch(value.strip())
        if match and float(match[1]) > 0:
            return f"{match[1]}/L"
        if value in ("theory", "estimate", "auto") or _AUTO.fullmatch(value):
            return value
    raise ConfigError(
        f"{path} must be a positive number, 'theory', 'estimate', 'auto', or a multiple of 1/L such as '0.35/L', got {value!r}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemSection:
    """The problem by name, with its own parameters."""

    name: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSection(TableOptions):
    """Where the data are, and how they are read.

    Attributes:
        source: "breast_cancer", "diabetes", "digits", or the absolute path of a file: a table (.csv, .tsv, .parquet,
            adult.data), LIBSVM text, the pictures of MNIST (idx; the labels lie beside them), a text, or sentences with labels.
        split: how rows are divided among workers.
        num_features: width, where a LIBSVM file does not use the last features.
        target: column of labels, of a table; its last one if empty.
        drop: columns of a table that are no features.
        format: what a file of rows is, whatever its name: "csv", "tsv", "parquet" or "libsvm".
        positive: the label that becomes +1, all others -1.
        labels: "numbers" to regress on labels, "signs" for two values; "auto" regresses on more than two numbers.
        first_index: where indices of a LIBSVM file begin to count, 1 or 0.
        repeated: what an index that stands twice in a row of LIBSVM means.
        text_column, label_column: of sentences and texts; by default those that their formats commonly have.
    """

    source: str
    split: str = "even"
    num_features: int | None = None
    target: str = ""
    drop: list[Any] = dataclasses.field(default_factory=list)
    format: Literal["", "csv", "tsv", "parquet", "libsvm"] = ""
    positive: str = ""
    labels: Literal["auto", "signs", "numbers"] = "auto"
    first_index: int = 1
    repeated: Literal["refuse", "sum", "last"] = "refuse"
    text_column: str = ""
    label_column: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in ("even", "label_skew"):
            raise ConfigError(f"data.split must be 'even' or 'label_skew', got {self.split!r}")
        if self.num_features is not None and (self.num_features < 1 or self.source in BUNDLED):
            raise ConfigError(f"data.num_features must be at least 1, and is for files only, got {self.num_features}")
        if not isinstance(self.drop, list) or not all(isinstance(name, str) for name in self.drop):
            raise ConfigError(f"data.drop must be a list of column names, got {self.drop!r}")
        check_choice("data.format", self.format, ("", "csv", "tsv", "parquet", "libsvm"))
        check_choice("data.labels", self.labels, ("auto", "signs", "numbers"))
        check_choice("data.repeated", self.repeated, ("refuse", "sum", "last"))
        if self.first_index not in (0, 1):
            raise ConfigError(f"data.first_index must be 0 or 1, got {self.first_index}")

    def options(self) -> dict[str, Any]:
        """What is set of how the data are read; `source`, `split`, `num_features`, `target` and `drop` left out."""
        fields = {field.name: field for field in dataclasses.fields(self) if field.name not in _ALWAYS}
        return {name: getattr(self, name) for name, field in fields.items() if getattr(self, name) != default_of(field)}

    def to_dict(self) -> dict[str, Any]:
        """As a recipe writes it: of the many options those that are set."""
        always = {name: value for name in _ALWAYS if (value := getattr(self, name)) is not None}
        return {**always, **self.options()}

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data on any machine: a file by its name and SHA-256, not by its path."""
        facts: dict[str, Any] = {"source": self.source, "split": self.split}
        facts |= {key: value for key, value in (("target", self.target), ("drop", self.drop)) if value}
        if self.source not in BUNDLED:
            facts |= {"source": Path(self.source).name, "sha256": _sha256(self.source)}
        facts |= self.options()
        return facts if self.num_features is None else {**facts, "num_features": self.num_features}


@functools.lru_cache(maxsize=8)
def _sha256(path: str) -> str:
    """Of a file; of a folder that of the names and digests of all its files."""
    try:
        if Path(path).is_dir():
            files = sorted(file for file in Path(path).rglob("*") if file.is_file())
            names = "".join(f"{file.relative_to(path).as_posix()}\0{_sha256(str(file))}\n" for file in files)
            return hashlib.sha256(names.encode()).hexdigest()
        with ordinary(Path(path)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def weights_fingerprint(folder: str) -> dict[str, str]:
    """What identifies pretrained weights on any machine: of the folder, the names and digests of the files that are read.

    Raises:
        DataError: one cannot be read.
    """
    read = sorted(file for file in Path(folder).glob("*") if file.suffix == ".safetensors" or file.name in _OF_WEIGHTS)
    names = "".join(f"{file.name}\0{_sha256(str(file))}\n" for file in read)
    return {"name": Path(folder).name, "sha256": hashlib.sha256(names.encode()).hexdigest()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressorSection:
    """A compressor by name, with its parameters."""

    name: str = "identity"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodSection:
    """A method by name, with its parameters.

    Attributes:
        label: its name in tables and plots, and the name of its folder.
        step_size: a number, "theory", the theory with constants that are estimated ("estimate"), the rule that finds it
            ("auto"), or a multiple of 1/L such as "0.35/L".
        probability: a number in (0, 1], "theory", or "auto": from counted bytes in both directions.
        parameters: the others that the method takes.
        up, down: compressors; None for a method that takes none.
    """

    name: str
    label: str
    step_size: float | str = "theory"
    probability: float | str = "theory"
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    up: CompressorSection | None = None
    down: CompressorSection | None = None

    def check(self, path: str) -> None:
        """Raise `ConfigError` where a value is out of range; `path` is that of the table."""
        parse_step_size(self.step_size, f"{path}.step_size")
        p = self.probability
        if p not in ("theory", "auto") and not (isinstance(p, int | float) and not isinstance(p, bool) and 0 < p <= 1):
            raise ConfigError(f"{path}.probability must be a number in (0, 1], 'theory' or 'auto', got {p!r}")
        if not _LABEL.fullmatch(self.label):
            raise ConfigError(f"{path}.label names a folder: letters, digits, spaces and ._+- (64 at most), got {self.label!r}")
        if self.label.casefold() in _FILES:
            raise ConfigError(f"{path}.label {self.label!r} is the name of a file beside that folder; take another one")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointSection:
    """What a killed run goes on from.

    Attributes:
        every: rounds between checkpoints of all processes; 0 for none.
    """

    every: int = 200

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ConfigError(f"checkpoint.every must be 0 or more, got {self.every}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputSection:
    """What is kept of a run, and where.

    Attributes:
        directory: empty for runs/ and the name of the recipe.
        tensorboard: whether to write TensorBoard events beside each metrics.jsonl.
        pictures: evaluations between pictures, of a problem that offers some; 0 for those of the last iterate only.
        trackers: services that are told the curves, some of "wandb" and "mlflow"; where and as whom is their own settings'.
    """

    directory: str = ""
    tensorboard: bool = False
    pictures: int = 0
    trackers: list[str] | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.trackers, list | tuple):
            raise ConfigError(f"output.trackers must be a list of names, got {self.trackers!r}")
        object.__setattr__(self, "trackers", tuple(self.trackers))
        for name in self.trackers:
            check_choice("output.trackers", name, ("mlflow", "wandb"))
        if len({*self.trackers}) < len(self.trackers):
            raise ConfigError(f"output.trackers must name each tracker once, got {list(self.trackers)!r}")
        if self.pictures < 0:
            raise ConfigError(f"output.pictures must be 0 or more, got {self.pictures}")
