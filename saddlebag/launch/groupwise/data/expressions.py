"""Groups as expressions over columns: a small language with a parser of its own, so that no recipe can run code.

    age <= 35                           comparisons: == != < <= > >=
    36 <= age <= 50                     ranges, closed or half open
    sex == "Female" and not smoker == "yes"
    race in ["Black", "Other"] or (education-num >= 13 and hours < 20)
    date >= "2026-01-01"                text compares as text, which is right for ISO dates
    1000 <= round < 2000                the round's number, from 0: time windows
    all                                 every round

A missing number is unequal to every number, and neither below nor above it; missing text is "".

`and` binds tighter than `or`, `not` tighter than `and`. Names of columns are letters, digits and _ . -, or anything within
backquotes. What a group depends on must be known before the prediction, so the label's column is refused.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from saddlebag.launch.groupwise.data.columns import Columns

Mask = "npt.NDArray[np.bool_]"
ROUND = "round"
MAX_LENGTH = 2000
"""Characters of an expression; recursion is bounded by it, well below Python's limit."""
_MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.-]))|(?P<text>"[^"]*"|'[^']*')"""
    r"""|(?P<operator><=|>=|==|!=|<|>)|(?P<mark>[()\[\],])|`(?P<quoted>[^`]+)`|(?P<name>[A-Za-z_][\w.-]*))"""
)
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = ("and", "or", "not", "in", "all")


@dataclasses.dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: as it was written.
        rule: the same without what does not matter: spaces, kinds of quotes, ways to write a number.
        columns: names of the columns it reads.
    """

    text: str
    rule: str
    columns: frozenset[str]
    _evaluate: Callable[[Columns, npt.NDArray[np.float64]], npt.NDArray[np.bool_]]

    def members(self, columns: Columns, where: str, *, first_round: int = 0) -> npt.NDArray[np.bool_]:
        """Which rows belong to the group.

        Raises:
            ConfigError: a column is unknown, or numbers are compared with text; the message starts with `where`.
        """
        rounds = np.arange(first_round, first_round + len(columns), dtype=np.float64)
        try:
            return self._evaluate(columns, rounds)
        except ConfigError as error:
            raise ConfigError(f"{where} = {self.text!r}: {error}") from error


def parse(text: str, where: str) -> Expression:
    """Parse an expression.

    Raises:
        ConfigError: it is malformed; the message starts with `where` and points at the place.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"{where}: an expression has at most {MAX_LENGTH} characters, got {len(text)}")
    try:
        parser = _Parser(text)
        evaluate = parser.disjunction(0)
        parser.expect_end()
    except ConfigError as error:
        raise ConfigError(f"{where} = {text!r}: {error}") from error
    return Expression(text, parser.rule(), frozenset(parser.columns), evaluate)


_Evaluate = "Callable[[Columns, npt.NDArray[np.float64]], npt.NDArray[np.bool_]]"


class _Parser:
    """Recursive descent over the tokens; every method returns a function of the columns."""

    def __init__(self, text: str) -> None:
        self._tokens, at = [], 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if not match:
                raise ConfigError(f"cannot read {text[at : at + 20].strip()!r} at character {at + 1}")
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind], match.start(kind) + 1))
            at = match.end()
        self._at = 0
        self.columns: set[str] = set()

    def rule(self) -> str:
        """The tokens, each written in one way."""
        ways: dict[str, Callable[[str], str]] = {
            "number": lambda value: repr(float(value)).removesuffix(".0"),
            "text": lambda value: repr(value[1:-1]),
        }
        return " ".join(ways.get(kind, str)(value) for kind, value, _ in self._tokens)

    def _peek(self, *values: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][1] in values and self._tokens[self._at][0] != "quoted"

    def _take(self, *values: str) -> bool:
        found = self._peek(*values)
        self._at += found
        return found

    def _expect(self, value: str) -> None:
        if not self._take(value):
            raise self._error(repr(value))

    def _error(self, wanted: str) -> ConfigError:
        if self._at == len(self._tokens):
            return ConfigError(f"ends where {wanted} should follow")
        _, value, place = self._tokens[self._at]
        return ConfigError(f"expected {wanted}, got {value!r} at character {place}")

    def expect_end(self) -> None:
        if self._at < len(self._tokens):
            raise self._error("'and', 'or' or the end")

    def disjunction(self, depth: int) -> Any:
        parts = [self._conjunction(depth)]
        while self._take("or"):
            parts.append(self._conjunction(depth))
        return lambda columns, rounds: np.logical_or.reduce([part(columns, rounds) for part in parts])

    def _conjunction(self, depth: int) -> Any:
        parts = [self._negation(depth)]
        while self._take("and"):
            parts.append(self._negation(depth))
        return lambda columns, rounds: np.logical_and.reduce([part(columns, rounds) for part in parts])

    def _negation(self, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ConfigError(f"brackets and 'not' are nested deeper than {_MAX_DEPTH}")
        if self._take("not"):
            inner = self._negation(depth + 1)
            return lambda columns, rounds: ~inner(columns, rounds)
        if self._take("("):
            inner = self.disjunction(depth + 1)
            self._expect(")")
            return inner
        if self._take("all"):
            return lambda columns, rounds: np.ones(len(rounds), np.bool_)
        return self._comparison()

    def _comparison(self) -> Any:
        """A chain such as 36 <= age <= 50, or `column in [...]`."""
        terms, operators = [self._term()], []
        if self._take("in"):
            choices = self._choices()
            return lambda columns, rounds: np.logical_or.reduce([_compare("==", terms[0], c, columns, rounds) for c in choices])
        while self._at < len(self._tokens) and self._tokens[self._at][0] == "operator":
            operators.append(self._tokens[self._at][1])
            self._at += 1
            terms.append(self._term())
        if not operators:
            raise self._error("a comparison (== != < <= > >= in)")
        if all(kind == "value" for kind, _ in terms):
            raise ConfigError("a comparison needs a column")
        links = list(zip(operators, terms, terms[1:], strict=False))
        return lambda columns, rounds: np.logical_and.reduce([_compare(op, a, b, columns, rounds) for op, a, b in links])

    def _choices(self) -> list[tuple[str, Any]]:
        self._expect("[")
        choices = [self._value()]
        while self._take(","):
            choices.append(self._value())
        self._expect("]")
        return choices

    def _value(self) -> tuple[str, Any]:
        term = self._term()
        if term[0] != "value":
            self._at -= 1
            raise self._error("a number or quoted text")
        return term

    def _term(self) -> tuple[str, Any]:
        if self._at == len(self._tokens):
            raise self._error("a column, a number or quoted text")
        kind, value, _ = self._tokens[self._at]
        if kind in ("operator", "mark") or (kind == "name" and value in _WORDS):
            raise self._error("a column, a number or quoted text")
        self._at += 1
        if kind == "number":
            return "value", float(value)
        if kind == "text":
            return "value", value[1:-1]
        self.columns.add(value)
        return "column", value


def _compare(symbol: str, left: Any, right: Any, columns: Columns, rounds: npt.NDArray[np.float64]) -> Any:
    values = [_look_up(term, columns, rounds) for term in (left, right)]
    kinds = ["text" if np.asarray(value).dtype.kind == "U" else "numbers" for value in values]
    if kinds[0] != kinds[1]:
        names = [repr(term[1]) for term in (left, right)]
        doubts = [columns.doubts[term[1]] for term in (left, right) if term[0] == "column" and term[1] in columns.doubts]
        why = f": {columns.name}, {doubts[0]}" if doubts else ""
        raise ConfigError(f"{names[0]} ({kinds[0]}) cannot be compared with {names[1]} ({kinds[1]}){why}")
    return np.broadcast_to(_COMPARISONS[symbol](*map(np.asarray, values)), len(rounds))


def _look_up(term: tuple[str, Any], columns: Columns, rounds: npt.NDArray[np.float64]) -> Any:
    kind, value = term
    if kind == "value":
        return value
    if value == ROUND and ROUND not in columns.values:
        return rounds
    if value not in columns.values:
        raise ConfigError(f"{columns.name} has no column {value!r}; it has {', '.join(columns.values)}")
    return columns.values[value]
