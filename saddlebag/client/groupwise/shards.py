"""Groups divided among several prediction servers: the client joins their parts, which gives the prediction of one server.

Every server answers with five numbers a row (`algorithms/groupwise/distributed/sharding.py`) and later learns the label
together with what was played. Nothing else knows of all servers, so there is nothing else to fail.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.groupwise import join_mixes
from saddlebag.algorithms.groupwise.coverage.calibration import corrected
from saddlebag.algorithms.groupwise.coverage.offered import join_notes, note_ends, note_width
from saddlebag.client.groupwise.client import GroupwiseClient
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from saddlebag.compression import Vector
    from saddlebag.proto.endpoint import ClientSecurity
    from saddlebag.proto.groupwise import Members

__all__ = ["JoinedPrediction", "ShardedClient"]


@dataclasses.dataclass(frozen=True, eq=False)
class JoinedPrediction:
    """A batch's predictions, and what its labels need.

    Attributes:
        value_N: the predictions.
        ticket_SN: each server's tickets.
        low_NM, high_NM: the ends of the intervals, a column for each target.
        joined_NK: the notes of all servers: see `join_notes`; then what was given out as `calibrated_N`.
        calibrated_N: the predictions corrected for every group and level; None without.
    """

    value_N: Vector
    ticket_SN: npt.NDArray[np.uint64]
    low_NM: Vector
    high_NM: Vector
    joined_NK: Vector | None = None
    calibrated_N: Vector | None = None


class ShardedClient:
    """Connections to all shards of a service; use it as a context manager.

    Args:
        addresses: of all shards, in any order.
        security: TLS files; none for plain text.
        token: the services' secret.
        identity: of this client at all shards, whose tickets it owns; a random one by default.
        timeout_s: seconds for one call.

    Attributes:
        features: names of the features.
        groups: names of all groups, shard after shard: the order of memberships.

    Raises:
        ConfigError: these are not all shards of one service.
        PeerLost: one does not answer.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        security: ClientSecurity | None = None,
        token: str = "",
        identity: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        self.identity = identity or secrets.token_hex(16)
        options: dict[str, Any] = {"security": security, "token": token, "identity": self.identity, "timeout_s": timeout_s}
        clients = [GroupwiseClient(each, **options) for each in addresses]
        self._pool = concurrent.futures.ThreadPoolExecutor(len(clients))  # begins no thread before its first job
        self._clients = sorted(clients, key=lambda client: int(client.about.shard))
        about = [client.about for client in self._clients]
        if [each.shard for each in about] != list(range(len(about))) or any(each.shards != len(about) for each in about):
            found = ", ".join(f"{each.shard} of {each.shards}" for each in about)
            self.close()
            raise ConfigError(f"addresses must name every shard of one service once, got shards {found}")
        if any(tuple(each.features) != tuple(about[0].features) for each in about):
            self.close()
            raise ConfigError("the shards have different features; start them from the same recipe and data")
        self.features = tuple(about[0].features)
        self.groups = tuple(name for each in about for name in each.groups)
        self._cuts = np.cumsum([len(each.groups) for each in about])[:-1]
        self._default, self._about = float(about[0].default), about[0]

    def __enter__(self) -> ShardedClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._pool.shutdown()
        for client in self._clients:
            client.close()

    def predict(self, x_ND: Vector, member_NG: Members, given_N: Vector | None = None) -> JoinedPrediction:
        """Predict rows; arguments and errors as `GroupwiseClient.predict`. Memberships are in the order of `groups`."""
        member_NG = np.asarray(member_NG)
        if member_NG.ndim != 2 or member_NG.shape[1] != len(self.groups):
            raise ConfigError(f"memberships must be a table of {len(self.groups)} groups, got shape {member_NG.shape}")
        shares = np.split(member_NG, self._cuts, axis=1)
        jobs = [
            self._pool.submit(client.partial, x_ND, share, given_N) for client, share in zip(self._clients, shares, strict=True)
        ]
        return self._joined(jobs)

    def predict_table(self, rows: Any) -> JoinedPrediction:
        """Predict rows of plain values, as labels are scaled; errors and `rows` as `GroupwiseClient.predict_table`."""
        return self._joined([self._pool.submit(client.partial_table, rows) for client in self._clients])

    def _joined(self, jobs: Sequence[concurrent.futures.Future[Any]]) -> JoinedPrediction:
        answers = [job.result() for job in jobs]
        value_N = join_mixes([part for _, part, _ in answers], self._default).value_N
        ticket_SN = np.stack([tickets for tickets, _, _ in answers])
        low_NM = high_NM = np.empty((len(value_N), 0))
        note_SNK = np.stack([notes for _, _, notes in answers])
        joined_NK, calibrated_N = note_SNK[0, :, :0], None
        if self._about.targets:
            width, around = note_width(len(self._about.targets)), None if self._about.given else value_N
            joined_NK = join_notes(note_SNK[:, :, :width], around)
            low_NM, high_NM = note_ends(joined_NK, (self._about.low, self._about.high) if self._about.bounded else None)
        if self._about.levels:
            calibrated_N = corrected(np.clip(value_N, 0.0, 1.0), note_SNK[:, :, -self._about.levels :].sum(axis=0))
            joined_NK = np.column_stack((joined_NK, calibrated_N))
        noted = joined_NK if joined_NK.shape[1] else None
        return JoinedPrediction(value_N, ticket_SN, low_NM, high_NM, noted, calibrated_N)

    def feedback(self, prediction: JoinedPrediction, row_N: Any, label_N: Any) -> npt.NDArray[np.uint8]:
        """Give the labels of some rows of a batch; returns the largest outcome of any shard (1: all have applied it)."""
        played_N = prediction.value_N[row_N]
        joined_NK = None if prediction.joined_NK is None else prediction.joined_NK[row_N]
        jobs = [
            self._pool.submit(client.feedback, ticket_N[row_N], label_N, played_N, joined_NK)
            for client, ticket_N in zip(self._clients, prediction.ticket_SN, strict=True)
        ]
        outcome_SN = np.stack([job.result() for job in jobs])
        largest_N: npt.NDArray[np.uint8] = outcome_SN.max(axis=0)
        return largest_N

    def reports(self) -> list[Any]:
        """Each shard's report."""
        return [client.report() for client in self._clients]
