"""Whether a problem is given data: some need labelled rows or pictures, others make their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.problems.data.rows import Dataset

T = TypeVar("T")


def require_data(name: str, data: Dataset | None, such_as: str) -> Dataset:
    """The data of a problem of that name.

    Raises:
        ConfigError: there are none; it names a bundled set that would do.
    """
    if data is None:
        raise ConfigError(f"{name} needs data: a bundled set such as {such_as!r}, a file, or arrays (X, y)")
    return data


def require_pictures(name: str, data: T | None) -> T:
    """The pictures of a problem of that name.

    Raises:
        ConfigError: there are none.
    """
    if data is None:
        raise ConfigError(f"{name} needs pictures; add a data section, for example source = 'digits'")
    return data


def refuse_data(name: str, data: Dataset | None) -> None:
    """For a problem of that name that makes its own data.

    Raises:
        ConfigError: some were given.
    """
    if data is not None:
        raise ConfigError(f"{name} generates its own data, got {data.name!r}; drop the data section")
