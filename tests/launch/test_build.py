"""From recipes to problems and methods, the resolved numbers, plug-ins, and the Python interface."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import saddlebag
from saddlebag.algorithms.averages.means import PLAIN
from saddlebag.algorithms.simulate import Stop
from saddlebag.compression.combinators.per_tensor import Tensor
from saddlebag.compression.compressors.identity import Identity
from saddlebag.compression.compressors.quantisers.natural import Natural
from saddlebag.compression.compressors.sparsifiers.top_k import TopK
from saddlebag.compression.draws import Draws
from saddlebag.errors import ConfigError, DataError, RemoteProtocolError
from saddlebag.launch import running
from saddlebag.launch.build import apply_resolved, build_method, build_problem, numbers_of, resolve, resolved_json
from saddlebag.launch.data.readers import READERS
from saddlebag.launch.recipe import plugins
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.recipe.server_section import ServerSection
from saddlebag.launch.results.table import Board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def recipe_of(method: dict[str, Any], **changes: Any) -> Recipe:
    table: dict[str, Any] = {
        "workers": 2,
        "problem": {"name": "bilinear", "n": 5},
        "method": method,
        "stop": {"merit": 1e-3},
        **changes,
    }
    return recipe_from_dict(table)


def test_resolving_gives_numbers_that_travel_and_come_back() -> None:
    recipe = recipe_of(
        {"name": "masha1", "up": {"name": "rand_k", "k": 1}, "step_size": "0.5/L"},
        baseline=[{"name": "extragradient"}, {"name": "ogda", "step_size": 2}],
    )
    problem = build_problem(recipe)
    assert problem.constants is not None
    resolved = resolve(recipe, problem)
    lipschitz = problem.constants.lipschitz
    assert resolved.method.step_size == 0.5 / lipschitz
    assert resolved.method.probability == 0.1, "1 / beta for one of ten coordinates"
    assert [method.step_size for method in resolved.baselines] == [1 / (2 * lipschitz), 2.0]
    assert resolved.baselines[0].probability == "theory", "it has none"
    text = resolved_json(resolved)
    assert json.loads(text) == {"step_size": resolved.method.step_size, "probability": 0.1}
    assert apply_resolved(recipe, text).method == resolved.method
    assert build_method(resolved, problem) == build_method(recipe, problem)


def test_rules_by_tensor_take_the_tensors_of_the_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"match": "x", "use": {"name": "identity"}}, {"use": {"name": "top_k", "fraction": 0.5}}]
    ruled = {"name": "per_tensor", "rules": rules}
    later = {"name": "schedule", "pieces": [{"round": 0, "name": "identity"}, {"round": 9, **ruled}]}
    recipe = recipe_of({"name": "compressed_sgd", "step_size": 0.1, "up": ruled, "down": later})
    problem: Any = build_problem(recipe)
    with pytest.raises(ConfigError, match=r"method\.up: per_tensor\.tensors must name at least one tensor"):
        build_method(recipe, problem)
    monkeypatch.setattr(type(problem), "tensors", (Tensor("x", (5,)), Tensor("y", (5,))), raising=False)
    method: Any = build_method(recipe, problem)
    assert [piece for _, piece in method.up.pieces] == [Identity(), TopK(fraction=0.5)]
    assert method.down.alpha(10) == 0.4, "two of five"
    assert recipe.to_dict()["method"]["up"] == ruled


def test_a_problem_names_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(data: Any, *, num_workers: int, split: str = "even") -> Any:
        return data, num_workers, split

    monkeypatch.setitem(plugins.REGISTRIES["problems"], "made", factory)
    monkeypatch.setitem(READERS, "words", lambda data: ["words", data.source])
    recipe = recipe_of({"name": "ogda", "step_size": 1}, problem={"name": "made"}, data={"source": "diabetes"})
    built: Any = build_problem(recipe)
    assert (built[0].name, *built[1:]) == ("diabetes", 2, "even")
    monkeypatch.setattr(factory, "reads", "words", raising=False)
    assert build_problem(recipe) == (["words", "diabetes"], 2, "even")
    monkeypatch.setattr(factory, "reads", "sounds")
    with pytest.raises(
        ConfigError, match=r"the problem reads 'sounds', for which there is no reader; .*known: images, rows, .*words"
    ):
        build_problem(recipe)
    monkeypatch.setattr(factory, "reads", "words")
    bad = recipe_of({"name": "ogda", "step_size": 1}, problem={"name": "made"}, data={"source": "digits", "target": "x"})
    with pytest.raises(ConfigError, match=r"data\.target, data\.drop and data\.num_features are for rows"):
        build_problem(bad)


def test_an_adaptive_compressor_is_chosen_before_the_run() -> None:
    recipe = recipe_of(
        {"name": "masha1", "up": {"name": "budget", "of": "rand_k", "budget_bytes": 60}, "step_size": "0.5/L"},
        baseline=[{"name": "masha1", "up": {"name": "rand_k", "k": 4}}],
    )
    problem = build_problem(recipe)
    resolved = resolve(recipe, problem)
    assert resolved.method.up is not None
    assert (resolved.method.up.name, resolved.method.up.parameters) == ("rand_k", {"k": 4}), "4 * 4 * 1.03 + 40 bytes"
    assert resolved.method.probability == resolve(recipe, problem).baselines[0].probability
    assert resolved.baselines[0].up == recipe.baselines[0].up
    on_a_worker = build_method(apply_resolved(recipe, resolved_json(resolved)), problem)
    draws, x_D = Draws(3, 5, 1), np.arange(10.0)
    ours, theirs = (method.up.encode(x_D, draws) for method in (build_method(resolved, problem), on_a_worker))  # type: ignore[attr-defined]
    assert np.array_equal(ours.dense(), theirs.dense())
    small = recipe_of({"name": "masha1", "up": {"name": "budget", "of": "rand_k", "budget_bytes": 20}})
    with pytest.raises(ConfigError, match=r"method\.up: budget_bytes=20 is too small for rand_k at d=10"):
        resolve(small, build_problem(small))


def test_an_automatic_step_travels_with_its_first_step() -> None:
    recipe = recipe_of(
        {"name": "ogda", "step_size": "auto"}, baseline=[{"name": "extragradient", "step_size": "auto from 0.25"}]
    )
    problem = build_problem(recipe)
    assert problem.constants is not None
    resolved = resolve(recipe, problem)
    assert resolved.method.step_size == f"auto from {0.1 / problem.constants.lipschitz!r}"
    assert resolved.baselines[0].step_size == "auto from 0.25"
    assert apply_resolved(recipe, resolved_json(resolved)).method == resolved.method
    assert build_method(resolved, problem) == build_method(recipe, problem)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"step_size": "1"}', '{"step_size": -1.0, "name": 2.0}', "[" * 100_000],
)
def test_resolved_numbers_from_a_peer_are_checked(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        apply_resolved(recipe_of({"name": "ogda"}), text)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            {"name": "masha1", "up": {"name": "top_k", "k": 1}},
            r"method: masha1 needs an unbiased compressor up, got \{name = \"top_k\", k = 1\}",
        ),
        (
            {"name": "masha2", "down": {"name": "rand_k", "k": 1}},
            r"method: masha2 needs a contractive compressor down, got \{name = \"rand_k\"",
        ),
        ({"name": "compressed_extragradient"}, r"method: compressed_extragradient has no proven step size"),
        ({"name": "masha1", "up": {"name": "rand_k", "fraction": 2}}, r"method\.up: .*fraction"),
        ({"name": "masha1", "up": {"name": "rand_k", "k": 11}}, r"method\.up: .*11.*10"),
        ({"name": "masha1", "up": {"name": "rand_k"}}, r"method\.up: "),
        ({"name": "masha1", "probability": 0.9}, r"method: .*probability <= 1/2"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_run(method: dict[str, Any], message: str) -> None:
    recipe = recipe_of(method)
    with pytest.raises(ConfigError, match=message) as caught:
        resolve(recipe, build_problem(recipe))
    assert "\n" not in str(caught.value)


def test_masha2_refuses_a_prox() -> None:
    recipe = recipe_of({"name": "masha2"}, problem={"name": "robust_logistic"}, data={"source": "breast_cancer"})
    with pytest.raises(ConfigError, match=r"method: masha2 has no prox and robust_logistic on breast_cancer needs one"):
        resolve(recipe, build_problem(recipe))


def test_problems_and_data_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="robust_logistic needs data"):
        build_problem(recipe_of({"name": "ogda"}, problem={"name": "robust_logistic"}))
    with pytest.raises(ConfigError, match="bilinear generates its own data"):
        build_problem(recipe_of({"name": "ogda"}, data={"source": "breast_cancer"}))
    with pytest.raises(ConfigError, match=r"problem: bilinear: n must be at least 1, got 0"):
        build_problem(recipe_of({"name": "ogda"}, problem={"name": "bilinear", "n": 0}))
    bad = tmp_path / "bad.txt"
    bad.write_text("+1 1:0.5\n-1 1:x\n")
    recipe = recipe_of({"name": "ogda"}, problem={"name": "robust_logistic"}, data={"source": str(bad)})
    with pytest.raises(DataError, match=r"bad\.txt, line 2: "):
        build_problem(recipe)


def test_label_skew_reaches_the_problem() -> None:
    def build(split: str) -> Any:
        data = {"source": "breast_cancer", "split": split}
        return build_problem(recipe_of({"name": "ogda"}, problem={"name": "robust_logistic"}, data=data))

    even, skew = build("even"), build("label_skew")
    spread = [np.ptp([problem.labels_N[shard].mean() for shard in problem.shards]) for problem in (even, skew)]
    assert spread[0] < 0.3 < 1.0 < spread[1], "means of labels in {-1, 1}"


class _Entry:
    """What `importlib.metadata` gives for a plug-in."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self._value, self.value, self.dist = name, value, f"somewhere:{name}", None

    def load(self) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    found = [
        _Entry("mine", Natural),
        _Entry("broken", ImportError("no such thing")),
        _Entry("identity", Natural),
        _Entry("number", 3),
    ]
    groups: Any = SimpleNamespace(select=lambda group: found if group == "saddlebag.compressors" else [])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda: groups)
    monkeypatch.setitem(plugins.REGISTRIES, "compressors", dict(plugins.REGISTRIES["compressors"]))
    plugins.load_plugins.cache_clear()
    yield
    plugins.load_plugins.cache_clear()


@pytest.mark.usefixtures("installed")
def test_plugins_are_added_and_broken_ones_reported() -> None:
    assert plugins.find("compressors", "mine", "x") is Natural
    loaded = plugins.load_plugins()
    assert loaded.origin("compressors", "mine") == "somewhere:mine"
    assert loaded.origin("compressors", "natural") == f"saddlebag {saddlebag.__version__}"
    broken, taken, number = loaded.warnings
    assert "'broken'" in broken
    assert "ImportError: no such thing" in broken
    assert "the name is taken by saddlebag" in taken
    assert "not callable" in number


def test_the_python_interface_is_the_recipe_in_other_words() -> None:
    problem = saddlebag.make_problem("bilinear", n=5, workers=3)
    method = saddlebag.make_method(
        "masha1", problem, step_size="0.2/L", probability=0.3, up=saddlebag.make_compressor("rand_k", k=5), down="natural"
    )
    outcome = saddlebag.simulate(problem, method, stop=1e-2, seed=4, every=5)
    recipe = recipe_of(
        {
            "name": "masha1",
            "step_size": "0.2/L",
            "probability": 0.3,
            "up": {"name": "rand_k", "k": 5},
            "down": {"name": "natural"},
        },
        workers=3,
    )
    same = build_method(recipe, build_problem(recipe))
    assert dataclasses.replace(same, prox=method.prox) == method  # type: ignore[type-var, attr-defined]
    again = saddlebag.simulate(problem, method, stop=Stop(merit=1e-2, every=5), seed=4)
    assert outcome.reason == "merit"
    assert outcome.history == again.history
    assert np.array_equal(outcome.replica.z_D, again.replica.z_D)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saddlebag.make_problem("bilinera"), "did you mean 'bilinear'"),
        (lambda: saddlebag.make_problem("bilinear", m=3), r"bilinear\.m is no known key"),
        (lambda: saddlebag.make_problem("bilinear", n="3"), r"bilinear\.n must be a whole number, got '3'"),
        (lambda: saddlebag.make_compressor("topk"), "did you mean 'top_k'"),
        (
            lambda: saddlebag.make_method("masha1", saddlebag.make_problem("bilinear"), stepsize=1),
            "has no parameter 'stepsize'",
        ),
        (lambda: saddlebag.make_method("masha1", saddlebag.make_problem("bilinear"), up="top_k"), "top_k"),
    ],
)
def test_the_python_interface_refuses_clearly(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_nested_compressors_are_built_and_run() -> None:
    up = {
        "name": "compose",
        "sparsifier": {"name": "top_k", "k": 3},
        "values": {"name": "scaled", "unbiased": {"name": "block_int8"}},
    }
    recipe = recipe_of({"name": "masha2", "up": up, "down": {"name": "nearest_int8"}, "step_size": "0.1/L"})
    method = build_method(recipe, build_problem(recipe))
    assert method.up.alpha(10) == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize(
    ("up", "message"),
    [
        (
            {"name": "compose", "sparsifier": {"name": "top_k", "k": 99}, "values": {"name": "natural"}},
            "method.up: top_k needs 1 <= k <= d, got k=99 for d=10",
        ),
        (
            {"name": "compose", "sparsifier": {"name": "top_k", "k": 0}, "values": {"name": "natural"}},
            "method.up: compose.sparsifier: top_k.k must be a whole number of at least 1, got 0",
        ),
        (
            {"name": "per_tensor", "tensors": [{"name": "w", "shape": [4]}], "rules": [{"use": {"name": "identity"}}]},
            "method.up: per_tensor.tensors have 4 coordinates together, the vector has 10",
        ),
    ],
)
def test_what_does_not_fit_inside_is_named(up: dict[str, Any], message: str) -> None:
    recipe = recipe_of({"name": "masha2", "up": up, "step_size": 0.1})
    with pytest.raises(ConfigError, match=f"^{message}"):
        build_method(recipe, build_problem(recipe))


@pytest.mark.parametrize(
    "up",
    [
        {"name": "perm_k", "workers": 3},
        {"name": "compose", "sparsifier": {"name": "perm_k", "workers": 3}, "values": {"name": "natural"}},
    ],
)
def test_a_joint_law_needs_its_number_of_workers_and_none_on_the_server(up: dict[str, Any]) -> None:
    recipe = recipe_of({"name": "masha1", "up": up, "step_size": 0.1})
    with pytest.raises(ConfigError, match=r"^method.up: .* is for 3 workers, the run has 2"):
        build_method(recipe, build_problem(recipe))
    recipe = recipe_of({"name": "masha1", "up": up, "step_size": 0.1}, workers=3)
    assert build_method(recipe, build_problem(recipe)).up.jointly == 3
    recipe = recipe_of({"name": "masha1", "up": up, "step_size": 0.1}, workers=3, server={"on_lost": "drop"})
    with pytest.raises(
        ConfigError, match=r"^method.up: .* needs all its workers in every round; set server.on_lost to 'pause'"
    ):
        build_method(recipe, build_problem(recipe))
    for method in ({"name": "masha1", "step_size": "auto"}, {"name": "three_pillars", "down": {"name": "identity"}}):
        recipe = recipe_of({**method, "up": up}, workers=3, server={"on_lost": "drop"})
        with pytest.raises(ConfigError, match=r"^method.up: .* needs all its workers in every round"):
            build_method(recipe, build_problem(recipe))
    recipe = recipe_of({"name": "masha1", "down": up, "step_size": 0.1}, workers=3)
    with pytest.raises(ConfigError, match=r"^method.down: .* divides a vector among workers"):
        build_method(recipe, build_problem(recipe))


def test_an_estimated_step_is_near_that_of_the_theory() -> None:
    exact_recipe, estimated_recipe = recipe_of({"name": "ogda"}), recipe_of({"name": "ogda", "step_size": "estimate"})
    problem = build_problem(exact_recipe)
    exact, estimated = build_method(exact_recipe, problem), build_method(estimated_recipe, problem)
    assert 1 / 1.3 < estimated.step_size / exact.step_size < 1.1  # type: ignore[attr-defined]  # the safety factor is 1.25
    assert saddlebag.make_method("ogda", problem, step_size="estimate") == estimated


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ({"name": "masha1", "step_size": "auto", "up": {"name": "natural"}}, {"probability"}),
        ({"name": "masha1", "step_size": 0.1, "up": {"name": "natural"}}, {"step_size", "probability"}),
        ({"name": "ogda", "step_size": "auto"}, set()),
        ({"name": "ogda"}, {"step_size"}),
    ],
)
def test_a_method_tells_its_numbers_also_under_an_automatic_step(method: dict[str, Any], names: set[str]) -> None:
    recipe = recipe_of(method)
    problem = build_problem(recipe)
    assert set(numbers_of(build_method(recipe, problem))) == names
    resolved = resolve(recipe, problem).method
    assert isinstance(resolved.probability, float) == ("probability" in names)


@pytest.mark.parametrize("driver", ["simulate", "grpc", "collective"])
@pytest.mark.parametrize("place", ["method", "baseline"])
def test_a_mean_that_a_method_cannot_bear_is_refused_before_a_process_starts(
    driver: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_args: Any, **_ways: Any) -> None:
        raise AssertionError("it began to run")

    monkeypatch.setattr(running, "_run_all", started)
    plain, remembers = {"name": "qsgda", "step_size": 0.1}, {"name": "diana_sgda", "step_size": 0.1}
    methods = {"method": remembers} if place == "method" else {"method": plain, "baseline": [remembers]}
    for table in (plain, remembers):
        table["up"] = {"name": "natural"}
    recipe = recipe_of(**methods, driver=driver, server={"mean": "geometric_median"})
    with pytest.raises(ConfigError, match=r"^server\.mean: DianaSgda takes the plain mean only"):
        running.run(recipe, tmp_path / "out", Board(["it"], stop=recipe.stop, workers=2, title="", quiet=True))
    assert not (tmp_path / "out").exists()


def test_what_recipes_call_the_plain_mean_is_said_alike_in_both_places() -> None:
    assert ServerSection.mean == PLAIN
    assert ServerSection(mean=PLAIN).rule is None
