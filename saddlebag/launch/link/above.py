"""A site's worker above: what `saddlebag host --above FILE` makes of the table [above]."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.errors import ConfigError, NotFiniteError
from saddlebag.launch.link.connection import LinkConnection
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.fields import at, fit, read_table
from saddlebag.proto.address import parse_address
from saddlebag.proto.checkpoint import WORKER_KEEPS, CheckpointStore
from saddlebag.proto.endpoint import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from saddlebag.compression import Vector

__all__ = ["AboveSection", "SiteAbove", "read_above"]

_END_S = 30.0  # for the server above to hear that the site is done


@dataclasses.dataclass(frozen=True, kw_only=True)
class AboveSection:
    """The table [above] of a site.

    Attributes:
        address: HOST:PORT of the server above.
        rank: of this site there, from 0.
        period: rounds of the site between exchanges above.
        method: of the run above, a name or a table as a program gives it; all sites say the same.
        token_file: with the secret of the run above.
        tls_ca, tls_cert, tls_key: TLS files (PEM), as a program's.
        give_up_s: how long a server above that is gone is waited for.
        token: the secret itself, which no file of a recipe holds.
    """

    address: str
    rank: int
    period: int
    method: str | dict[str, Any] = "diloco"
    token_file: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    give_up_s: float = 600.0
    token: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        parse_address(self.address, "above.address")
        if not 0 <= self.rank < 1 << 16:
            raise ConfigError(f"above.rank must lie in [0, 65536), got {self.rank}")
        if not 1 <= self.period < 1 << 32:
            raise ConfigError(f"above.period must be a whole number of rounds from 1, got {self.period}")
        if not self.give_up_s > 0:
            raise ConfigError(f"above.give_up_s must be positive, got {self.give_up_s}")

    def terms(self, site: Terms) -> Terms:
        """What this site says above: the tensors are those of its programs, a period above is so many steps of theirs."""
        with at("above.method"):
            return Terms.of(self.method, site.every * self.period, site.parameters, site.buffers)

    def security(self) -> ClientSecurity:
        """The TLS files."""
        ca, certificate, key = (Path(path) if path else None for path in (self.tls_ca, self.tls_cert, self.tls_key))
        return ClientSecurity(ca=ca, certificate=certificate, key=key)


def read_above(path: Path, secret: Callable[[Path], str]) -> AboveSection:
    """The section in a file of TOML; paths in it start at its folder, and `secret` reads the token's.

    Raises:
        ConfigError: the file is missing, or its table [above] is none.
    """
    table = toml.read(path)
    if set(table) != {"above"}:
        raise ConfigError(f"{path} must hold one table, [above], got {', '.join(sorted(table)) or 'nothing'}")
    values = fit(AboveSection, read_table(table["above"], "above"), "above", given=("token",))
    for name in ("token_file", "tls_ca", "tls_cert", "tls_key"):
        if values.get(name):
            values[name] = str(path.parent / values[name])
    return AboveSection(**values, token=secret(Path(values["token_file"])) if values.get("token_file") else "")


class SiteAbove:
    """A worker above whose operator is a site's server; see `saddlebag.server.middle.Above`.

    Args:
        section: of the site.
        site: what the site's programs say.
        folder: of the site's checkpoints, where its own lie too.
        workers: how many programs the site has: so many times the samples of one are behind an exchange.
        note: told what a person should know.
    """

    def __init__(
        self,
        section: AboveSection,
        site: Terms,
        *,
        folder: Path,
        workers: int,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.over, self.round = False, 0
        self._store, self._note = CheckpointStore(folder, "above", keep=WORKER_KEEPS), note
        ways: dict[str, Any] = {
            "token": section.token,
            "security": section.security(),
            "give_up_s": section.give_up_s,
            "note": note,
        }
        terms = self._terms = section.terms(site)
        self._connection = LinkConnection(terms, section.address, section.rank, store=self._store, **ways)
        self._steps, self._samples = terms.every, terms.every * workers
        self._said = False  # whether the site's way of this round was told before a crash, and its round has ended above
        self._thread: threading.Thread | None = None

    def begin(self, start_D: Vector) -> Vector:
        """Join anew with the site's start; returns that of the run above, or where it stands."""
        self._store.forget_after(-1)
        self._connection.open(start_D)
        point_D, self.round = self._started()
        arrays, facts = self._connection.capture()  # else a crash in the first round would have nothing to go on from
        self._store.save(self.round, arrays, {**facts, "recipe": self._terms.text()})
        return point_D

    def take_up(self, start_D: Vector, at: int) -> None:
        """Take up the state of the last checkpoint of a run that began at the boundary `at`; `resume` goes on."""
        self._connection.open(start_D)
        self.round = at
        if (saved := self._store.newest(self._note)) is not None:
            self._connection.take_up(*saved)

    def resume(self, at: int) -> None:
        """See `Above`. What the site has said of a round that had ended above is not said again."""
        _, round_ = self._started()
        self._said, self.round = round_ != at, at

    def _started(self) -> tuple[Vector, int]:
        self._thread = threading.Thread(target=self._work, name="saddlebag-above", daemon=True)
        self._thread.start()
        return self._heard()

    def _heard(self) -> tuple[Vector, int]:
        """Where all go on, and the boundary."""
        point_D, self.over = self._connection.meeting.next_point()
        return point_D, self._connection.meeting.round

    def exchange(self, change_D: Vector) -> Vector:
        """See `Above`.

        Raises:
            NotFiniteError: the site's point is not finite.
            PeerLost: the server above did not come back in time.
        """
        if self._thread is None:  # there was no checkpoint yet
            self.resume(self.round)
        if not self._said and not self.over:
            if not np.isfinite(change_D).all():
                raise NotFiniteError("the site's point is not finite before its exchange above; nothing was sent")
            self._connection.meeting.bring(change_D, samples=self._samples, steps=self._steps)
        point_D, self.round = self._heard()
        self._said = False
        return point_D

    def leave(self) -> None:
        """Say above that the site is done."""
        self._connection.meeting.leave()
        self._end()

    def drop(self) -> None:
        """Go without a word: the run above waits for this site as its policy says."""
        self._connection.meeting.drop()
        self._end()

    def __enter__(self) -> SiteAbove:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.leave()
        else:
            self.drop()

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join(_END_S)
            self._thread = None

    def _work(self) -> None:
        failure: Exception | None = None
        try:
            asyncio.run(self._connection.run())
        except Exception as error:  # raised where the site waits
            failure = error
        self._connection.meeting.close(self._connection.last_point(), failure)
