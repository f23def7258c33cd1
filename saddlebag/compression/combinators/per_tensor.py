"""Per-tensor rules: each tensor of a model goes to the compressor of the first rule that its name and size match."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saddlebag.compression.base import Compressor, Contractive, Unbiased, errors_average, jointly, kind_of, mean_noise
from saddlebag.compression.combinators.nested import Inner, as_compressor
from saddlebag.compression.compressors.low_rank import RankR
from saddlebag.compression.payload import Concat, require_finite
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.compression.draws import Draws
    from saddlebag.compression.payload import Vector

__all__ = ["Rule", "Tensor", "per_tensor"]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A run of consecutive coordinates with a name and a shape.

    Example:
        >>> Tensor("encoder.weight", (4, 3)).size
        12
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A compressor and the tensors it is for.

    Attributes:
        use: the compressor; `low_rank` without `columns` takes a tensor's first axis as rows and the others as columns.
        match: a pattern of names with * and ?, all by default.
        min_size, max_size: of a tensor, in coordinates.

    Example:
        >>> from saddlebag.compression import TopK
        >>> rule = Rule(use=TopK(fraction=0.01), match="*.weight", min_size=1000)
        >>> rule.fits(Tensor("encoder.weight", (64, 64))), rule.fits(Tensor("encoder.bias", (64,)))
        (True, False)
    """

    use: Compressor
    match: str = "*"
    min_size: int = 0
    max_size: int | None = None

    def fits(self, tensor: Tensor) -> bool:
        """Whether the tensor's name and size match."""
        small = self.max_size is None or tensor.size <= self.max_size
        return small and tensor.size >= self.min_size and fnmatch.fnmatchcase(tensor.name, self.match)


@dataclasses.dataclass(frozen=True)
class _PerTensor:
    """Tensors in order, each with its compressor."""

    pieces: tuple[tuple[Tensor, Any], ...]

    reference = "of its parts"

    @property
    def _dimension(self) -> int:
        """D, of all tensors together."""
        return sum(tensor.size for tensor, _ in self.pieces)

    @property
    def common_draws(self) -> bool:
        """Whether the workers share some of their draws."""
        return not all(errors_average(compressor) for _, compressor in self.pieces)

    @property
    def jointly(self) -> int:
        """Of how many workers together a law is; 0 for laws of each alone."""
        return max(jointly(compressor) for _, compressor in self.pieces)

    def encode(self, x_D: Vector, draws: Draws) -> Concat:
        """Compress tensor by tensor.

        They share their streams: the squared error is a sum over tensors, into which no correlation between them enters.
        """
        self._check(len(x_D))
        require_finite(x_D, "a compressor's input")
        parts, start = [], 0
        for tensor, compressor in self.pieces:
            parts.append(compressor.encode(x_D[start : start + tensor.size], draws))
            start += tensor.size
        return Concat(tuple(parts))

    def _check(self, d: int) -> None:
        if d != self._dimension:
            raise ConfigError(f"per_tensor.tensors have {self._dimension} coordinates together, the vector has {d}")

    def _each(self, d: int) -> Iterator[tuple[int, Any]]:
        self._check(d)
        return ((tensor.size, compressor) for tensor, compressor in self.pieces)

    def _laws(self, d: int) -> list[tuple[int, Any]]:
        """Those of the tensors that have entries: a law says nothing of the others."""
        return [(size, compressor) for size, compressor in self._each(d) if size]

    def bits(self, d: int) -> float:
        return float(sum(compressor.bits(size) for size, compressor in self._each(d)))

    def part(self, here: slice, d: int) -> Compressor | None:
        """The tensors of a run, where it cuts none."""
        self._check(d)
        ends = list(itertools.accumulate((tensor.size for tensor, _ in self.pieces), initial=0))
        if here.start not in ends or here.stop not in ends:
            return None
        places = zip(self.pieces, itertools.pairwise(ends), strict=True)
        return type(self)(tuple(piece for piece, (start, stop) in places if here.start <= start and stop <= here.stop))


class _Unbiased(_PerTensor):
    def omega(self, d: int) -> float:
        return float(max((compressor.omega(size) for size, compressor in self._laws(d)), default=0.0))

    def mean_noise(self, d: int, num_workers: int) -> tuple[float, float]:
        """The worst of the tensors, for the bound is a sum over them."""
        each = [mean_noise(compressor, size, num_workers) for size, compressor in self._laws(d)] or [(0.0, 0.0)]
        return max(a for a, _ in each), min(b for _, b in each)


class _Contractive(_PerTensor):
    def alpha(self, d: int) -> float:
        return float(min((compressor.alpha(size) for size, compressor in self._laws(d)), default=1.0))


class _Both(_Unbiased, _Contractive):
    pass


def per_tensor(*, rules: Sequence[Rule | Mapping[str, Any]], tensors: Sequence[Tensor | Mapping[str, Any]] = ()) -> Compressor:
    """Each tensor with the compressor of the first rule that fits: omega is the largest, alpha the smallest of them.

    Args:
        rules: `Rule`, or tables with `use` (a table that names a compressor) and optionally match, min_size and max_size.
        tensors: names and shapes in the order of the vector, as `Tensor` or tables with name and shape. A recipe may leave them
            out where its problem has some, as networks do.

    Raises:
        ConfigError: a table is malformed, no rule fits a tensor, a compressor does not fit its tensor, or the compressors
            have no kind in common.

    Example:
        >>> tensors = [{"name": "layer.weight", "shape": [8, 16]}, {"name": "layer.bias", "shape": [8]}]
        >>> rules = [{"match": "*.bias", "use": {"name": "identity"}}, {"use": {"name": "top_k", "fraction": 0.25}}]
        >>> per_tensor(tensors=tensors, rules=rules).alpha(136)
        0.25
    """
    known = [_tensor(value, f"per_tensor.tensors.{number}") for number, value in enumerate(tensors)]
    made = [_rule(value, f"per_tensor.rules.{number}") for number, value in enumerate(rules)]
    if not known:
        raise ConfigError("per_tensor.tensors must name at least one tensor, for the problem names none")
    pieces = tuple((tensor, choose(tensor, made)) for tensor in known)
    unbiased, contractive = (all(isinstance(c, kind) for _, c in pieces) for kind in (Unbiased, Contractive))
    if not (unbiased or contractive):
        kinds = ", ".join(dict.fromkeys(f"{type(c).__name__} is {kind_of(c)}" for _, c in pieces))
        raise ConfigError(f"per_tensor.rules must lead to all unbiased or all contractive compressors: {kinds}")
    return (_Both if unbiased and contractive else _Unbiased if unbiased else _Contractive)(pieces)


def _tensor(value: Tensor | Mapping[str, Any], path: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, Mapping) or set(value) != {"name", "shape"} or not isinstance(value["name"], str):
        raise ConfigError(f"{path} must be a table with name and shape, got {value!r}")
    shape = value["shape"]
    if not isinstance(shape, Sequence) or not all(type(length) is int and length >= 0 for length in shape):
        raise ConfigError(f"{path}.shape must be a list of whole numbers from 0, got {shape!r}")
    return Tensor(value["name"], tuple(shape))


def _rule(value: Rule | Mapping[str, Any], path: str) -> Rule:
    if isinstance(value, Rule):
        return value
    if not isinstance(value, Mapping) or "use" not in value:
        raise ConfigError(f"{path} must be a table with use, got {value!r}")
    known = {"use": object, "match": str, "min_size": int, "max_size": int}
    for key, given in value.items():
        if key not in known:
            raise ConfigError(f"{path}.{key} is no known key; known: {', '.join(known)}")
        if not isinstance(given, known[key]) or isinstance(given, bool):
            raise ConfigError(f"{path}.{key} must be {'text' if key == 'match' else 'a whole number'}, got {given!r}")
    use: Inner = value["use"]
    return Rule(**{**value, "use": as_compressor(use, f"{path}.use")})


def choose(tensor: Tensor, rules: Sequence[Rule]) -> Compressor:
    """The compressor of the first rule that fits; `low_rank` without columns gets those of the tensor.

    Raises:
        ConfigError: none fits, or its compressor does not fit the tensor.
    """
    for rule in rules:
        if rule.fits(tensor):
            use = rule.use
            if isinstance(use, RankR) and use.columns is None and len(tensor.shape) > 1 and tensor.size:
                use = dataclasses.replace(use, columns=tensor.size // tensor.shape[0])
            try:
                use.bits(tensor.size)
            except ConfigError as error:
                raise ConfigError(f"per_tensor: tensor {tensor.name!r}: {error}") from error
            return use
    raise ConfigError(f"per_tensor.rules: none fits tensor {tensor.name!r} of {tensor.size}; end with a rule without match")
