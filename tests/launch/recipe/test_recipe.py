"""Recipes: what is read, what is refused and how, and what identifies a run."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from saddlebag.algorithms.simulate import Stop
from saddlebag.compression import COMPRESSORS, Tensor, Unbiased, make_compressor
from saddlebag.errors import ConfigError, DataError
from saddlebag.launch.link.terms import Terms
from saddlebag.launch.recipe import toml
from saddlebag.launch.recipe.recipe import Recipe, load_recipe, recipe_from_dict

RECIPE = """
title = "A \\"small\\" game"
workers = 3
driver = "simulate"

[problem]
name = "bilinear"
n = 5

[method]
name = "masha1"
step_size = "0.35 / L"
probability = 1
up = {name = "rand_k", fraction = 0.4, support = "common"}

[[baseline]]
name = "extragradient"

[[baseline]]
name = "extragradient"
step_size = 0.25

[stop]
merit = 1e-3
every = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def test_reads_what_is_written(file: Path) -> None:
    recipe = load_recipe(file)
    assert (recipe.title, recipe.workers, recipe.seed, recipe.driver) == ('A "small" game', 3, 0, "simulate")
    assert recipe.ranks == 1
    assert (recipe.problem.name, recipe.problem.parameters) == ("bilinear", {"n": 5})
    assert (recipe.method.step_size, recipe.method.probability) == ("0.35/L", 1.0)
    assert recipe.method.up is not None
    assert recipe.method.up.parameters == {"fraction": 0.4, "support": "common"}
    assert recipe.method.down is not None
    assert recipe.method.down.name == "identity", "the default of a method that compresses"
    assert recipe.baselines[0].up is None
    assert recipe.output.directory == "runs/small"


def test_jobs_are_single_methods_with_different_labels(file: Path) -> None:
    jobs = load_recipe(file).jobs()
    assert [job.label for job in jobs] == ["masha1", "extragradient", "extragradient-2"]
    assert all(job.baselines == () for job in jobs)
    assert len({job.digest() for job in jobs}) == 3


def test_written_out_it_loads_back_to_an_equal_recipe(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(file, ["output.directory=some where/else", "title='tab\t and \\ and ü'"])
    again = tmp_path / "again.toml"
    again.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(again) == recipe
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("seed=7", {"seed": 7}),
        ("seed=18446744073709551615", {"seed": 2**64 - 1}),
        ("driver=grpc", {"driver": "grpc"}),
        ('driver="grpc"', {"driver": "grpc"}),
        ("server.lease_s=5", {"server": {"lease_s": 5.0}}),
        ("baseline.1.step_size=2/L", {"baseline": {1: {"step_size": "2/L"}}}),
        ("method.up={name='rand_k', k=2}", {"method": {"up": {"name": "rand_k", "k": 2}}}),
    ],
)
def test_overrides(file: Path, assignment: str, value: dict[str, Any]) -> None:
    def check(expected: Any, got: Any) -> None:
        if isinstance(expected, dict):
            for key, below in expected.items():
                check(below, got[key])
        else:
            assert got == expected

    check(value, load_recipe(file, [assignment]).to_dict())


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("worker=4", r"worker is no known key; did you mean 'workers'\? known: .*workers"),
        ("stop.evry=4", r"stop\.evry is no known key; did you mean 'every'"),
        ("stop.every=ten", r"stop\.every must be a whole number, got 'ten'"),
        ("stop.every=2.5", r"stop\.every must be a whole number, got 2\.5"),
        ("stop.every=0", r"stop\.every must be at least 1, got 0"),
        ("stop=3", r"stop must be a table, got 3"),
        ("workers=true", r"workers must be a whole number, got True"),
        ("workers=0", r"workers must lie in \[1, 65,536\], got 0"),
        ("workers=65537", r"workers must lie in \[1, 65,536\], got 65537"),
        ("workers=100000000", r"workers must lie in \[1, 65,536\], got 100000000"),
        ("method.label=Result.json", r"method\.label 'Result\.json' is the name of a file beside that folder"),
        ("seed=-1", r"seed must lie in \[0, 2\^64\), got -1"),
        ("seed=18446744073709551616", r"seed must lie in \[0, 2\^64\), got 18446744073709551616"),
        ("driver=mpi", r"driver must be 'grpc' or 'simulate' or 'collective', got 'mpi'"),
        ("title=3", r"title must be text, got 3"),
        ("problem.name=bilinera", r"problem\.name 'bilinera' is no known problem; did you mean 'bilinear'"),
        ("problem.m=3", r"problem\.m is no known key; .*known: heterogeneity, n, name"),
        ("problem.n=big", r"problem\.n must be a whole number, got 'big'"),
        ("problem.regularisation=nan", r"problem\.regularisation must be a number, got nan"),
        ("problem.num_workers=3", r"problem\.num_workers is no known key; a recipe has it as workers"),
        ("data.label=y", r"data\.label is no known key; a recipe has it as data\.target \(of a table\) or data\.label_column"),
        ("data.sep=;", r"data\.sep is no known key; a recipe has it as data\.delimiter"),
        ("problem.data=digits", r"problem\.data is no known key; a recipe has it as data\.source"),
        ("max_rounds=3", r"max_rounds is no known key; did you mean stop\.max_rounds\?"),
        ("every=3", r"every is no known key; did you mean stop\.every or checkpoint\.every\?"),
        ("method.name=masha3", r"method\.name 'masha3' is no known method; did you mean 'masha[12]'"),
        ("method.stepsize=1", r"method\.stepsize is no known key; did you mean 'step_size'"),
        (
            "method.step_size=0",
            r"method\.step_size must be a positive number, 'theory', 'estimate', 'auto', or a multiple of 1/L .*, got 0",
        ),
        ("method.step_size=1/M", r"method\.step_size must be .*, got '1/M'"),
        ("method.probability=1.5", r"method\.probability must be a number in \(0, 1\], 'theory' or 'auto', got 1\.5"),
        ("method.rule=later", r"method\.rule must be 'current' or 'next', got 'later'"),
        ("method.label=../up", r"method\.label names a folder: .*, got '\.\./up'"),
        ("method.up.name=randk", r"method\.up\.name 'randk' is no known compressor; did you mean 'rand_k'"),
        ("method.up.fracton=1", r"method\.up\.fracton is no known key; did you mean 'fraction'"),
        ("baseline.0.up.name=natural", r"baseline\.0: extragradient takes no compressors"),
        ("baseline.0.probability=0.5", r"baseline\.0\.probability is no known key"),
        ("baseline.5.label=x", r"a list with 2 elements has no element '5'"),
        ("baseline=3", r"baseline must be a list of tables"),
        ("checkpoint.every=-1", r"checkpoint\.every must be 0 or more, got -1"),
        ("server.lease_s=0", r"server\.lease_s must be positive, got 0"),
        ("server.on_lost=cry", r"server\.on_lost must be 'pause' or 'drop', got 'cry'"),
        ("server.address=here", r"server\.address must be HOST:PORT, .* got 'here': the port is missing"),
        ("title.x=3", r"--set: title is '.*', not a table"),
        ("nonsense", r"--set needs key\.path=value, got 'nonsense'"),
        ("title=[1", r"--set title: '\[1' is no TOML value"),
    ],
)
def test_refusals_name_the_key_and_what_is_allowed(file: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(file, [assignment])
    assert "\n" not in str(caught.value)


def test_labels_must_differ(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"baseline\.0\.label 'MINE' is taken"):
        load_recipe(file, ["method.label=mine", "baseline.0.label=MINE"])


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*gone\.toml: No such file"):
        load_recipe(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("workers = = 3")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML: .*line 1"):
        load_recipe(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="method is missing"):
        recipe_from_dict({"workers": 1, "problem": {"name": "bilinear"}, "stop": {"merit": 1.0}})


def test_a_recipe_of_four_lines_has_workers_and_a_stop() -> None:
    recipe = recipe_from_dict({"problem": {"name": "bilinear"}, "method": {"name": "ogda"}})
    assert (recipe.workers, recipe.stop) == (4, Stop(merit=1e-6, max_rounds=20_000))
    spaced = recipe_from_dict({"problem": {"name": "bilinear"}, "method": {"name": "ogda"}, "stop": {"every": 10}})
    assert spaced.stop == Stop(merit=1e-6, max_rounds=20_000, every=10)
    limited = recipe_from_dict({"problem": {"name": "bilinear"}, "method": {"name": "ogda"}, "stop": {"max_iterations": 7}})
    assert limited.stop == Stop(max_iterations=7)


@pytest.fixture
def with_data(file: Path) -> Recipe:
    file.with_name("rows.txt").write_text("+1 1:0.5\n-1 2:1\n")
    return load_recipe(file, ["problem={name='robust_logistic'}", "data.source=rows.txt", "workers=2"])


def test_data_are_looked_for_beside_the_recipe_then_in_the_working_directory(
    with_data: Recipe, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_data.data is not None
    assert with_data.data.source == str(file.with_name("rows.txt").resolve())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "others.txt").write_text("+1 1:0.5\n-1 2:1\n")
    monkeypatch.chdir(elsewhere)
    sets = ["problem={name='robust_logistic'}", "data.source=others.txt"]
    assert load_recipe(file, sets).to_dict()["data"]["source"] == str((elsewhere / "others.txt").resolve())
    with pytest.raises(
        DataError,
        match=r"data\.source 'gone\.txt' is neither 'breast_cancer' nor 'diabetes' nor 'digits' nor a file; looked for .* and ",
    ):
        load_recipe(file, ["data.source=gone.txt"])
    with pytest.raises(ConfigError, match=r"data\.split must be 'even' or 'label_skew', got 'odd'"):
        load_recipe(file, [*sets, "data.split=odd"])


def test_canonical_is_what_determines_the_trajectory(file: Path, with_data: Recipe) -> None:
    recipe = load_recipe(file)
    same = [
        "driver=grpc",
        "title=other",
        "method.label=other",
        "output.directory=x",
        "server.lease_s=3",
        "baseline.0.step_size=9",
    ]
    assert all(load_recipe(file, [change]).digest() == recipe.digest() for change in same)
    other = [
        "seed=1",
        "workers=4",
        "problem.n=6",
        "method.step_size=1",
        "method.up.fraction=0.5",
        "stop.every=3",
        "checkpoint.every=9",
    ]
    assert len({load_recipe(file, [change]).digest() for change in other} | {recipe.digest()}) == len(other) + 1
    canonical = recipe.canonical()
    assert canonical == json.dumps(json.loads(canonical), sort_keys=True, separators=(",", ":"))
    moved = file.with_name("deeper")
    moved.mkdir()
    (moved / "rows.txt").write_bytes(file.with_name("rows.txt").read_bytes())
    assert with_data.data is not None
    there = dataclasses.replace(with_data.data, source=str(moved / "rows.txt"))
    assert dataclasses.replace(with_data, data=there).canonical() == with_data.canonical(), "a path is of one machine"
    (moved / "other").mkdir()
    (moved / "other" / "rows.txt").write_text("+1 1:0.25\n-1 2:1\n")
    changed = dataclasses.replace(with_data.data, source=str(moved / "other" / "rows.txt"))
    assert dataclasses.replace(with_data, data=changed).canonical() != with_data.canonical(), "contents count"


def test_toml_writer_round_trips() -> None:
    import tomllib

    table = {
        "text": 'quote " backslash \\ control \x01\x7f newline \n ü 😀',
        "numbers": [1, -2.5, 1e-300, 2**70, float("inf")],
        "flag": False,
        "odd key": 1,
        "below": {"more": {"x": 1}, "list": [{"y": 2, "z": {"w": []}}, {"y": 3}], "empty": {}},
    }
    assert tomllib.loads(toml.dump(table)) == table


NESTED: dict[str, Any] = {
    "name": "compose",
    "sparsifier": {"name": "top_k", "fraction": 0.5},
    "values": {"name": "scaled", "unbiased": {"name": "block_int8", "block": 4}},
}


def nested(up: dict[str, Any]) -> Recipe:
    return recipe_from_dict(
        {
            "workers": 2,
            "problem": {"name": "bilinear", "n": 5},
            "method": {"name": "masha2", "up": up, "step_size": 0.1},
            "stop": {"merit": 1e-3},
        }
    )


def test_compressors_nest_and_come_back_from_a_file(tmp_path: Path) -> None:
    recipe = nested(NESTED)
    assert recipe.method.up is not None
    assert recipe.method.up.parameters == {key: NESTED[key] for key in ("sparsifier", "values")}
    file = tmp_path / "nested.toml"
    file.write_text(recipe.to_toml())
    assert dataclasses.replace(load_recipe(file), output=recipe.output) == recipe
    changed = load_recipe(file, ["method.up.values.unbiased.block=8"])
    assert changed.digest() != recipe.digest()


@pytest.mark.parametrize(
    ("up", "message"),
    [
        (
            {**NESTED, "values": {"name": "block_int9"}},
            "method.up.values.name 'block_int9' is no known compressor; did",
        ),
        (
            {**NESTED, "values": {"name": "block_int8", "blok": 4}},
            "method.up.values.blok is no known key; did you mean",
        ),
        (
            {**NESTED, "values": {"name": "scaled", "unbiased": {"name": "block_int8", "block": "4"}}},
            "method.up.values.unbiased.block must be a whole number, got '4'",
        ),
        ({**NESTED, "values": {"name": "scaled"}}, "method.up.values.unbiased is missing"),
        (
            {"name": "per_tensor", "tensors": [{"name": "w", "shape": [10]}], "rules": [{"use": {"name": "top_k", "q": 1}}]},
            "method.up.rules.0.use.q is no known key",
        ),
    ],
)
def test_an_error_inside_a_nested_compressor_has_its_full_path(up: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        nested(up)


def compressor_examples() -> list[dict[str, Any]]:
    """Every TOML block of docs/compressors.md, one compressor at a time."""
    text = (Path(__file__).parents[3] / "docs" / "compressors.md").read_text()
    found = []
    for block in re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL):
        for part in re.split(r"\n\n", block):
            table = tomllib.loads(part)
            method = table.get("method", table)
            found += [method[side] for side in ("up", "down") if side in method]
    return found


@pytest.mark.parametrize("up", compressor_examples(), ids=lambda up: up["name"])
def test_the_compressors_of_the_documentation_are_read_and_made(up: dict[str, Any]) -> None:
    compressor = make_compressor(**up)
    unbiased = isinstance(compressor, Unbiased)
    name = "masha1" if unbiased else "masha2"
    recipe = recipe_from_dict(
        {"workers": 4, "problem": {"name": "bilinear", "n": 5}, "method": {"name": name, "up": up}, "stop": {"merit": 1e-3}}
    )
    assert recipe.method.up is not None
    assert make_compressor(recipe.method.up.name, **recipe.method.up.parameters) == compressor


def test_the_documentation_names_every_compressor() -> None:
    text = (Path(__file__).parents[3] / "docs" / "compressors.md").read_text()
    table = text[text.index("## All of them") : text.index("## In a recipe")]
    assert {name for name in COMPRESSORS if f"`{name}`" not in table} == set()


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "{a = " * 5000 + "1" + "}" * 5000])
def test_values_that_are_nested_too_deep_are_no_recipe(tmp_path: Path, file: Path, value: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"workers = {value}\n")
    with pytest.raises(ConfigError, match=r"deep\.toml: not TOML: its values are nested too deep"):
        load_recipe(path)
    with pytest.raises(ConfigError, match="is no TOML value: its values are nested too deep"):
        load_recipe(file, [f"workers={value}"])


def test_a_recipe_of_an_editor_that_marks_utf8_is_read(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "marked" / file.name
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert load_recipe(path) == load_recipe(file)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device that never ends")
def test_a_recipe_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match="no recipe: it has more than 16 MiB"):
        load_recipe(Path("/dev/zero"))


def test_linked_programs_have_an_identity_though_no_factory_makes_their_problem() -> None:
    recipe = Terms.of("local_average", 1, (Tensor("w", (2,)),), ()).recipe(workers=2, seed=0)
    assert json.loads(recipe.canonical())["problem"] == {"name": "linked programs"}


def test_what_changes_the_bits_is_compared_and_defaults_are_not(file: Path) -> None:
    """Ranks of a node add up in another order, and another mean is another number: both belong to the run's identity."""
    recipe = load_recipe(file)
    assert {"ranks", "mean"}.isdisjoint(json.loads(recipe.canonical())), "as before there were any: checkpoints stay valid"
    ranked = dataclasses.replace(recipe, ranks=2)
    robust = dataclasses.replace(recipe, server=dataclasses.replace(recipe.server, mean="geometric_median"))
    assert json.loads(ranked.canonical())["ranks"] == 2
    assert json.loads(robust.canonical())["mean"] == "geometric_median"
    assert len({each.digest() for each in (recipe, ranked, robust)}) == 3


@pytest.mark.parametrize("workers", [1, 65_536])
def test_the_fewest_and_the_most_workers_are_taken(workers: int) -> None:
    table = tomllib.loads(RECIPE) | {"workers": workers}
    assert recipe_from_dict(table).workers == workers


@pytest.mark.parametrize(
    ("method", "complaint"),
    [({"step_size": 0.1}, "method.name is missing"), ({"name": 3}, "method.name must be text, got 3")],
)
def test_a_name_that_is_none_is_named(method: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"^{complaint}$"):
        recipe_from_dict(tomllib.loads(RECIPE) | {"method": method})
