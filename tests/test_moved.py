"""Old names of modules: they warn, and give what is at the new place."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from saddlebag.moved import _LEFT, MOVED

PACKAGE = Path(__file__).parents[1] / "saddlebag"
PACKAGES = {"launch.recipe": "load_recipe", "launch.data": "load_data", "launch.results": "read_lines"}


def test_every_new_place_is_there_and_every_old_one_is_free() -> None:
    def there(name: str) -> bool:
        return PACKAGE.joinpath(*name.split(".")).with_suffix(".py").is_file()

    assert [place for places in MOVED.values() for place in places if not there(place)] == []
    assert [old for old in MOVED if there(old)] == []


def test_a_moved_module_warns_and_has_its_names() -> None:
    sys.modules.pop("saddlebag.compression.top_k", None)
    with pytest.warns(
        DeprecationWarning, match=r"saddlebag\.compression\.top_k has moved to saddlebag\.compression\.compressors"
    ):
        old = importlib.import_module("saddlebag.compression.top_k")
    new = importlib.import_module("saddlebag.compression.compressors.sparsifiers.top_k")
    assert old.TopK is new.TopK
    with pytest.raises(AttributeError, match="has no attribute 'nothing'; it has moved to"):
        _ = old.nothing


def test_a_file_that_was_divided_is_looked_up_in_all_its_parts() -> None:
    sys.modules.pop("saddlebag.launch.processes", None)
    with pytest.warns(DeprecationWarning, match="launch.drivers.server and saddlebag.launch.drivers.worker"):
        old = importlib.import_module("saddlebag.launch.processes")
    assert {old.run_server.__module__, old.run_worker.__module__} == {
        "saddlebag.launch.drivers.server",
        "saddlebag.launch.drivers.worker",
    }


@pytest.mark.parametrize(("package", "name"), PACKAGES.items())
def test_a_package_that_was_a_file_still_has_its_names(package: str, name: str) -> None:
    module = importlib.import_module(f"saddlebag.{package}")
    with pytest.warns(DeprecationWarning, match="has moved to"):
        assert callable(getattr(module, name))
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_files_of_such_a_package_are_imported_without_a_word() -> None:
    code = "from saddlebag.launch.recipe import toml; import sys; print('saddlebag.launch.recipe.recipe' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("package", "name"), [("algorithms", "catch_up"), ("algorithms.groupwise", "Frame")])
def test_an_inner_name_that_left_a_package_is_still_given_with_a_warning(package: str, name: str) -> None:
    module = importlib.import_module(f"saddlebag.{package}")
    assert name not in module.__all__
    with pytest.warns(DeprecationWarning, match=rf"saddlebag\.{package}\.{name} has moved to saddlebag\.{package}\..*{name}"):
        assert callable(getattr(module, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


def test_every_name_that_left_is_where_it_is_said_to_be() -> None:
    for package, files in _LEFT.items():
        for place, names in files.items():
            held = vars(importlib.import_module(f"saddlebag.{place}"))
            assert set(names.split()) <= held.keys(), (package, place)
