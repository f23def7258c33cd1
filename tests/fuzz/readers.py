"""What is read from a network or a disk, beside messages: each as something to throw byte strings at.

A reader takes a string or refuses it by one of our errors. Where a checksum would end nearly every mutant at once, it is made
right again, so that what lies behind it is reached.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms import Judge, Stop, masha1
from saddlebag.algorithms.groupwise import AdaNormalHedge, Groupwise, Ridge, SquaredLoss
from saddlebag.algorithms.problems import BilinearGame
from saddlebag.client.core import WorkerCore
from saddlebag.compression import Natural, RandK
from saddlebag.errors import SaddlebagError
from saddlebag.launch.link.terms import Terms
from saddlebag.proto.checkpoint import arrays_to_bytes, bytes_to_arrays
from saddlebag.proto.counted import read_counted
from saddlebag.proto.digests import PLACE, with_digest
from saddlebag.proto.frames import frames_of, read_frame
from saddlebag.proto.groupwise import join_columns, join_labels, join_rows
from saddlebag.proto.handshake import PROTOCOL, JoinAsk, require_same_recipe
from saddlebag.proto.seal import opened, sealed
from saddlebag.proto.v1 import groupwise_pb2 as gw
from saddlebag.proto.v1 import parameter_server_pb2 as pb
from saddlebag.server.calls import _parsed
from saddlebag.server.core import ServerCore
from saddlebag.server.effects import ServerSettings
from saddlebag.server.groupwise.calls import calls_in, head_of, record_of
from saddlebag.server.groupwise.core import GroupwiseCore, ServiceSettings
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.lobby import _start
from saddlebag.server.saved import capture

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["READERS", "Reader"]

GAME = BilinearGame(n=4, num_workers=3, regularisation=0.2)
METHOD = masha1(GAME, up=RandK(fraction=0.5), down=Natural(), step_size=0.1)
RECIPE = json.dumps({"workers": 3, "seed": 7, "method": {"name": "masha1", "step_size": 0.1}}, sort_keys=True)
FEATURES, GROUPS, ROWS = 3, 5, 4


class Reader:
    """One of them.

    Args:
        seeds: strings that it takes.
        read: takes a string, or raises a `SaddlebagError`.
        mend: makes a mutant's checksums right.
    """

    def __init__(self, seeds: list[bytes], read: Callable[[bytes], object], mend: Callable[[bytes], bytes] = bytes) -> None:
        self.seeds, self._read, self._mend = seeds, read, mend

    def takes(self, data: bytes, *, mend: bool) -> bool:
        """Whether the string is taken; any exception that is none of ours is a fault."""
        try:
            self._read(self._mend(data) if mend else data)
        except SaddlebagError:
            return False
        return True


def _server() -> ServerCore:
    settings = ServerSettings(num_workers=3, seed=7, recipe=RECIPE, checkpoint_every=5, token="secret", contributions=False)
    return ServerCore(METHOD, Judge(GAME, Stop(max_rounds=9)), GAME.start(), settings, 0.0)


def _worker() -> WorkerCore:
    core = WorkerCore(METHOD, GAME.operator(0), GAME.start(), worker=0, seed=7)
    core.begin_run(0)
    return core


def _frames() -> list[bytes]:
    buffers, digest = _worker().step()
    given: dict[str, Any] = {"epoch": 0, "round_": 0, "sender": 1, "digest": digest}
    return [*frames_of(buffers, **given), *frames_of(buffers, **given, frame_bytes=8, samples=3, steps=9, attempt=2)]


def _resealed(data: bytes) -> bytes:
    """The message with another seal: what `sealed` appends has a fixed length."""
    return sealed(data[: -len(sealed(b""))] if len(data) >= len(sealed(b"")) else data)


# -- files ---------------------------------------------------------------------------------------------------------------


def _redigested(data: bytes) -> bytes:
    """The file with its own digest, where there is a place for one."""
    at = data.rfind(b'\\"sha256\\": \\"')
    if at < 0 or len(data) < at + 14 + len(PLACE):
        return data
    at += 14
    zeroed = data[:at] + PLACE.encode() + data[at + len(PLACE) :]
    try:
        return b"".join(bytes(piece) for piece in with_digest([zeroed]))
    except ValueError:
        return data


def _checkpoint(name: str) -> tuple[bytes, Callable[[bytes], object]]:
    """A checkpoint's file, and what restores a core from it."""
    if name == "server":
        save = capture(_server())

        def restore(data: bytes) -> None:
            _server().restore(bytes_to_arrays(data, "the checkpoint"), _facts(data), 0.0)

        return arrays_to_bytes(save.arrays, save.meta), restore
    if name == "worker":
        arrays, meta = _worker().capture()

        def again(data: bytes) -> None:
            _worker().restore(bytes_to_arrays(data, "the checkpoint"), _facts(data))

        return arrays_to_bytes(arrays, {**meta, "recipe": RECIPE}), again
    service = _service()
    service.predict(_requests()[0])
    state, facts = service.core.capture()

    def third(data: bytes) -> None:
        _core().restore(bytes_to_arrays(data, "the checkpoint"), _facts(data))

    return arrays_to_bytes(state, facts), third


def _facts(data: bytes) -> Any:
    """The facts, as the stores give them: of files whose digest is right, JSON objects alone."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        facts = json.loads(header["__metadata__"]["saddlebag"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise SaddlebagError("no facts") from error
    if not isinstance(facts, dict):
        raise SaddlebagError("no facts")
    return facts


# -- the service ---------------------------------------------------------------------------------------------------------


def _core() -> GroupwiseCore:
    algorithm = Groupwise(
        learner=Ridge(dimension=FEATURES), mixer=AdaNormalHedge(), loss=SquaredLoss(), interval=(0.0, 1.0), always_on=0
    )
    names = tuple(f"g{group}" for group in range(GROUPS))
    return GroupwiseCore(algorithm, ServiceSettings(features=("a", "b", "c"), groups=names, max_pending=1000, max_rows=64))


def _service() -> GroupwiseService:
    return GroupwiseService(_core())


def _requests() -> list[bytes]:
    rng = np.random.default_rng(0)
    member_NG = rng.random((ROWS, GROUPS)) < 0.5
    member_NG[:, 0] = True
    features, groups = join_rows(rng.random((ROWS, FEATURES)), member_NG)
    columns = join_columns({"a": np.array([0.5, 1.0]), "b": np.array(["x", "y"])})
    return [
        gw.PredictRequest(features=features, groups=groups).SerializeToString(),
        gw.PredictRequest(columns=columns).SerializeToString(),
    ]


def _labels() -> bytes:
    tickets, labels = join_labels(list(range(ROWS)), [0.5] * ROWS)
    return gw.FeedbackRequest(tickets=tickets, labels=labels).SerializeToString()


def _stream() -> list[bytes]:
    predict, feedback = gw.PredictRequest.FromString(_requests()[0]), gw.FeedbackRequest.FromString(_labels())
    return [gw.StreamRequest(predict=predict).SerializeToString(), gw.StreamRequest(feedback=feedback).SerializeToString()]


class _Serving:
    """A service that lives on from request to request, and is replaced now and then."""

    def __init__(self, call: str) -> None:
        self._call, self._left, self._service = call, 0, _service()

    def __call__(self, raw: bytes) -> object:
        if not self._left:
            self._service, self._left = _service(), 2000
            self._service.predict(_requests()[0])
        self._left -= 1
        return getattr(self._service, self._call)(raw)


def _journal() -> list[bytes]:
    data = head_of(3)
    for kind, body in ((1, _requests()[0]), (2, _labels()), (3, _requests()[0])):
        data += record_of(kind, body, 7, len(data))
    return [head_of(3), data]


def _rerecorded(data: bytes) -> bytes:
    """The records with their checksums, as far as their lengths lead."""
    first, record = len(head_of(3)), struct.calcsize("<II")
    out, at = bytearray(data[: first - 4]), first
    out += struct.pack("<I", zlib.crc32(bytes(out)))
    while at + record + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        body = data[at + record + 4 : at + record + 4 + length]
        if len(body) < 9:
            break
        out += record_of(body[0], body[9:], int.from_bytes(body[1:9], "little"), len(out))
        at += record + 4 + length
    return bytes(out) + data[at:]


def _replay(data: bytes) -> None:
    service = _service()
    for call in calls_in(io.BytesIO(data), Path("journal"), 3):
        service._again(call)


# -- calls ---------------------------------------------------------------------------------------------------------------


def _join_request() -> bytes:
    told: dict[str, Any] = {"worker": 1, "recipe": RECIPE, "dimension": 8, "rounds": [0, 5], "epoch": 0, "token": "secret"}
    return sealed(pb.JoinRequest(protocol=PROTOCOL, **told).SerializeToString())


class _Joining:
    def __init__(self) -> None:
        self._core, self._number = _server(), 0

    def __call__(self, raw: bytes) -> None:
        request = _parsed(raw, pb.JoinRequest)
        self._number += 1
        told = {name: getattr(request, name) for name in ("worker", "recipe", "dimension", "epoch", "token")}
        self._core.join(JoinAsk(**told, rounds=tuple(request.rounds)), f"session {self._number}", 1e3 * self._number)


class _Uplink:
    """A server that takes a frame; it is another one each time, as a frame changes it."""

    def __init__(self) -> None:
        self._left, self._core = 0, _server()

    def __call__(self, raw: bytes) -> None:
        if not self._left:
            self._core, self._left = _server(), 50
        self._left -= 1
        read_frame(raw)
        self._core.frame(0, raw, 0.0)


def _terms() -> bytes:
    tensors = {"w": [0, 2, 3], "b": [1, 3]}
    method = {"name": "diloco", "step_size": 0.7, "momentum": 0.6, "up": {"name": "top_k", "k": 2}}
    return json.dumps({"method": method, "every": 5, "parameters": tensors, "buffers": {}}).encode()


def _offer_piece(raw: bytes) -> None:
    opened(raw, "an OfferPiece")
    piece = _message(pb.OfferPiece, raw)
    if piece.terms:
        Terms.parse(piece.terms)


def _message(kind: Any, raw: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise SaddlebagError("no message") from error


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode(errors="replace"))


def _make() -> dict[str, Reader]:
    offer = sealed(pb.OfferPiece(protocol=PROTOCOL, terms=_terms().decode(), worker=0, token="x", total=99).SerializeToString())
    readers = {
        "join": Reader([_join_request()], _Joining(), _resealed),
        "frame": Reader(_frames(), _Uplink(), _resealed),
        "counted": Reader([bytes(range(1, 9)), b"\x01\x00\x02\x03"], lambda data: read_counted(data, 1000)),
        "recipe": Reader([RECIPE.encode()], _text(lambda text: require_same_recipe(text, RECIPE))),
        "terms": Reader([_terms()], _text(Terms.parse)),
        "offer": Reader([offer], _offer_piece, _resealed),
        "start": Reader([arrays_to_bytes({"start": np.ones(6, np.float32)}, {})], _start_of, _redigested),
        "journal": Reader(_journal(), _replay, _rerecorded),
    }
    for call, seeds in (("predict", _requests()), ("feedback", [_labels()]), ("partial", _requests()), ("stream", _stream())):
        readers[call] = Reader(seeds, _Serving(call))
    for name in ("server", "worker", "service"):
        data, restore = _checkpoint(name)
        readers[f"checkpoint_{name}"] = Reader([data], restore, _redigested)
    return readers


def _start_of(data: bytes) -> object:
    return _start(data, 6)


READERS = _make()
