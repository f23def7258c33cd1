from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("flwr", reason="Flower is an extra")

from saddlebag.errors import ConfigError
from saddlebag.flower import InProcessGrid, MethodStrategy, method_app, run_session
from saddlebag.flower.methods.session import _Server
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.proto.endpoint import ServerSecurity


def recipe_for(**tables: Any) -> Recipe:
    problem = {"name": "bilinear", "n": 6, "regularisation": 0.2}
    method = {"name": "extragradient", "step_size": 0.3}
    return recipe_from_dict({"workers": 2, "problem": problem, "method": method, "stop": {"max_rounds": 8}, **tables})


FILES = {
    "checkpoint.every": {"checkpoint": {"every": 50}},
    "output.directory": {"output": {"directory": "elsewhere/run"}},
    "output.tensorboard": {"output": {"tensorboard": True}},
    "output.pictures": {"output": {"pictures": 3}},
}
SERVER = {
    "server.lease_s": {"server": {"lease_s": 5.0}},
    "server.on_lost": {"server": {"on_lost": "drop"}},
    "server.address": {"server": {"address": "127.0.0.1:7070"}},
}


@pytest.mark.parametrize("key", [*FILES, *SERVER])
def test_what_cannot_be_kept_to_is_refused_by_name(key: str) -> None:
    recipe = recipe_for(**{**FILES, **SERVER}[key])
    with pytest.raises(ConfigError, match=f"^{key} = .* cannot be kept by"):
        MethodStrategy(recipe)
    if key in FILES:
        with pytest.raises(ConfigError, match=f"^{key} = .* cannot be kept by"):
            run_session(InProcessGrid(method_app(), 2, together=True), recipe)


def test_a_session_keeps_to_the_recipes_server() -> None:
    recipe = recipe_for(server={"lease_s": 3.0, "round_deadline_s": 70.0, "on_lost": "drop"}, checkpoint={"every": 0})
    settings = _Server(Job.lead(recipe, "session"), ServerSecurity(), lambda record: None, lambda text: None).core.settings
    assert (settings.lease_s, settings.round_deadline_s, settings.on_lost) == (3.0, 70.0, "drop")
    with pytest.raises(ConfigError, match=r"203\.0\.113\.7"):  # an address that needs TLS, from the recipe
        run_session(InProcessGrid(method_app(), 2, together=True), recipe_for(server={"address": "203.0.113.7:7070"}))


def test_by_messages_an_exchange_lasts_no_longer_than_the_deadline_of_a_round() -> None:
    timeouts: list[float | None] = []

    class Watching(InProcessGrid):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            messages = list(messages)
            if any(message.metadata.message_type.startswith("train") for message in messages):
                timeouts.append(timeout)
            return super().send_and_receive(messages, timeout=timeout)

    MethodStrategy(recipe_for(server={"round_deadline_s": 40.0})).start(grid=Watching(method_app(), 2))
    assert set(timeouts) == {40.0}
