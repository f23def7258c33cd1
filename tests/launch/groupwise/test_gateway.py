"""The service over REST and JSON: the numbers, tickets, identities and refusals of gRPC, from bytes of anybody."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from saddlebag.client.groupwise.requests import predicted, table_request, values_request
from saddlebag.errors import ConfigError, StateError
from saddlebag.launch.groupwise import gateway
from saddlebag.launch.groupwise.gateway import serve_rest
from saddlebag.launch.groupwise.serving import make_parts
from saddlebag.proto.endpoint import ServerSecurity
from saddlebag.server.groupwise.service import GroupwiseService
from saddlebag.server.groupwise.shell import GroupwiseShell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

RECIPE = """
[data]
source = "rows.csv"
[features]
numeric = ["x"]
one_hot = ["kind"]
missing = "mean"
[label]
column = "y"
positive = "yes"
[groups]
low = "x < 0.5"
[intervals]
targets = [0.8, 0.9]
[calibration]
bins = 5
"""
SECRET = {"saddlebag-token": "secret", "saddlebag-client": "alice"}


def served(folder: Path, **share: int) -> GroupwiseService:
    rng = np.random.default_rng(0)
    rows = [f"{rng.random():.3f},{rng.choice(['a', 'b'])},{rng.choice(['yes', 'no'])}" for _ in range(60)]
    (folder / "rows.csv").write_text("\n".join(["x,kind,y", *rows]) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    core, encoder = make_parts(folder / "recipe.toml", [], max_rows=64, max_pending=640, **share)
    return GroupwiseService(core, folder / "state", encoder=encoder)


class Rest:
    """A service with a gateway, in a thread of its own."""

    def __init__(self, service: GroupwiseService) -> None:
        self.service, self._ready = service, threading.Event()
        self.port, self.ended, self.failure = 0, threading.Event(), ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    async def _serve(self) -> None:
        shell, self._loop = GroupwiseShell(self.service, token="secret"), asyncio.get_running_loop()
        await shell.start("127.0.0.1:0", ServerSecurity())
        stop, self.port = await serve_rest("127.0.0.1:0", self.service, shell, ServerSecurity(), "secret")
        self._stop = shell.stop
        self._ready.set()
        try:
            await shell.run()
        except StateError as error:
            self.failure = str(error)
        await stop()
        self.ended.set()

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(60)

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        call = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        call.request("GET" if raw is None else "POST", path, raw, SECRET if headers is None else headers)
        answer = call.getresponse()
        text = answer.read()
        call.close()
        return answer.status, json.loads(text) if answer.getheader("content-type") == "application/json" else text


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    running = Rest(served(tmp_path))
    yield running
    running.stop()


def test_predictions_and_labels_are_those_of_grpc_and_survive_a_restart(rest: Rest, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = served(tmp_path / "other")
    about, rows = other.describe(), [{"x": 0.2, "kind": "a"}, {"x": None, "kind": "b"}, {"x": 0.9, "kind": "a", "more": 1}]
    for number in range(4):
        status, answer = rest.ask("/predict", {"rows": rows})
        assert status == 200
        expected = predicted(other.predict(table_request(about, rows, False).SerializeToString()))
        assert answer["tickets"] == expected.ticket_N.tolist() == [3 * number, 3 * number + 1, 3 * number + 2]
        assert answer["predictions"] == expected.value_N.tolist()
        assert answer["calibrated"] == expected.calibrated_N.tolist()  # type: ignore[union-attr]
        assert (answer["low"], answer["high"]) == (expected.low_NM.tolist(), expected.high_NM.tolist())
        told = {"tickets": answer["tickets"], "labels": ["yes", "no", "yes"]}
        assert rest.ask("/learn", told) == (200, {"outcomes": [1, 1, 1]})
        assert rest.ask("/learn", told) == (200, {"outcomes": [2, 2, 2]})
        other.feedback(values_request(about, expected.ticket_N, told["labels"]).SerializeToString())
    status, report = rest.ask("/report")
    assert (status, int(report["learned"]), report["experts"][0]["name"]) == (200, 12, "low")
    assert [each["name"] for each in rest.ask("/describe")[1]["columns"]] == ["x", "kind"]
    rest.stop()
    again = served(tmp_path)
    assert again.core.learned == 12
    assert np.array_equal(again.core.state.learner.theta_GD, other.core.state.learner.theta_GD)


def test_the_secret_and_the_identity_are_asked_for(rest: Rest) -> None:
    asked: list[tuple[str, Any]] = [("/report", None), ("/predict", {"rows": [{"x": 1, "kind": "a"}]})]
    for headers in (dict[str, str](), {"saddlebag-token": "guess"}):
        for path, body in asked:
            status, answer = rest.ask(path, body, headers)
            assert status == 401
            assert "saddlebag-token must hold the server's secret" in answer["error"]
    ticket = rest.ask("/predict", {"rows": [{"x": 0.1, "kind": "a"}]})[1]["tickets"]
    body = {"tickets": ticket, "labels": ["yes"]}
    status, answer = rest.ask("/learn", body, {**SECRET, "saddlebag-client": "bob"})
    assert status == 400
    assert "was given to another client" in answer["error"]
    assert rest.ask("/learn", body)[1] == {"outcomes": [1]}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/predict", b"{", "a body must be JSON"),
        ("/predict", b"\xff\xfe", "a body must be JSON"),
        ("/predict", b"[" * 100_000, "a body must be JSON"),
        ("/predict", b'{"rows": [{"x": NaN, "kind": "a"}]}', "NaN is no number of JSON; a missing value is null"),
        ("/predict", [], "a body must be an object with the lists rows"),
        ("/predict", {"rows": [], "tickets": []}, "a body must be an object with the lists rows"),
        ("/predict", {"rows": []}, "1 to 64 rows, got 0"),
        ("/predict", {"rows": [{"x": 0.1}]}, "row 0 has no 'kind'"),
        ("/predict", {"rows": [{"x": "many", "kind": "a"}]}, "column 'x' must hold numbers, got 'many' in row 0"),
        ("/predict", {"rows": [{"x": [1], "kind": "a"}, {"x": [1, 2], "kind": "a"}]}, "column 'x' must"),
        ("/predict", b'{"rows": [{"x": 1%s, "kind": "a"}]}' % (b"0" * 400), ""),
        ("/predict", {"rows": [{"x": 0.1, "kind": "new"}]}, "holds 'new' in row 0"),
        ("/predict", {"rows": [{"x": 1e9, "kind": "a"}]}, "beyond its bound"),
        ("/learn", {"tickets": [-1], "labels": ["yes"]}, "tickets must be whole numbers"),
        ("/learn", {"tickets": [1.5], "labels": ["yes"]}, "tickets must be whole numbers"),
        ("/learn", {"tickets": [1 << 64], "labels": ["yes"]}, "tickets must be whole numbers"),
        ("/learn", {"tickets": [1, 2], "labels": ["yes"]}, "2 tickets came with 1 labels"),
        ("/learn", {"tickets": [0], "labels": [1.5]}, "column 'y' must hold text"),
        ("/learn", {"tickets": [0, 1], "labels": [["yes"], ["a", "b"]]}, "column 'y' must"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_harms_nobody(rest: Rest, path: str, body: Any, message: str) -> None:
    status, answer = rest.ask(path, body)
    assert status == 400
    assert message in answer["error"]
    assert "\n" not in answer["error"]
    assert rest.ask("/predict", {"rows": [{"x": 0.1, "kind": "a"}]})[0] == 200
    assert not rest.ended.is_set()


def test_a_body_is_bounded_and_other_paths_are_unknown(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_LARGEST", 100)
    assert rest.ask("/predict", b" " * 101) == (400, {"error": "a body has at most 100 bytes; send fewer rows"})
    assert rest.ask("/other")[0] == 404
    assert rest.ask("/predict")[0] == 405


def test_a_journal_that_cannot_be_written_ends_the_service(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saddlebag.server.groupwise.journal._write", full)
    status, answer = rest.ask("/predict", {"rows": [{"x": 0.1, "kind": "a"}]})
    assert (status, answer["error"]) == (503, "cannot write the journal: No space left on device")
    monkeypatch.undo()
    assert rest.ended.wait(60)
    assert rest.failure == answer["error"]


def test_what_a_gateway_does_not_do_is_refused(tmp_path: Path) -> None:
    service = served(tmp_path)
    shell = GroupwiseShell(service)

    def refused(address: str, security: ServerSecurity, token: str = "", of: GroupwiseService = service) -> str:
        with pytest.raises(ConfigError) as error:
            asyncio.run(serve_rest(address, of, shell, security, token))
        return str(error.value)

    assert "knows no clients' certificates" in refused("127.0.0.1:0", ServerSecurity(ca=tmp_path))
    assert refused("0.0.0.0:0", ServerSecurity())
