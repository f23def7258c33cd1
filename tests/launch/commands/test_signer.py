"""`saddlebag signer`, and what becomes of the keys in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("cryptography", reason="secure aggregation needs the extra 'secure'")

from saddlebag.errors import ConfigError
from saddlebag.launch.commands.fleet.signer import read_signing_key, signer
from saddlebag.launch.job import Job
from saddlebag.launch.recipe.recipe import Recipe, recipe_from_dict
from saddlebag.launch.settings import require_kept
from saddlebag.proto.secure.primitives import public_of

SECRETS = [bytes([number + 1]) * 32 for number in range(3)]
SIGNERS = [public_of(secret).hex() for secret in SECRETS]


def recipe_for(**server: Any) -> Recipe:
    up = {"name": "nearest_int8"}
    method = {"name": "compressed_sgd", "step_size": 0.05, "common_range": 0.5, "up": up, "down": up}
    problem = {"name": "quadratic", "n": 6}
    return recipe_from_dict({"workers": 3, "driver": "grpc", "problem": problem, "method": method, "server": server})


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "worker.key"
    printed = [CliRunner().invoke(signer, [str(file)]).output.strip() for _ in range(2)]
    assert printed[0] == printed[1] == public_of(read_signing_key(file)).hex()
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "zz", "00" * 31, "\u20ac"])
def test_files_that_hold_no_key_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "worker.key"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="holds no signing key"):
        read_signing_key(file)
    with pytest.raises(ConfigError, match="cannot read the signing key"):
        read_signing_key(tmp_path / "none")
    assert read_signing_key(None) == b""


def test_a_worker_of_a_recipe_with_signers_signs() -> None:
    recipe = recipe_for(secure=True, signers=SIGNERS)
    masks = Job.lead(recipe, "grpc").securing(SECRETS[1])
    assert masks is not None
    assert masks.identity is not None
    assert masks.identity.signers == tuple(map(bytes.fromhex, SIGNERS))
    assert recipe.canonical() != recipe_for(secure=True).canonical()
    assert recipe_from_dict(recipe.to_dict()) == recipe


def test_a_signing_key_and_signers_go_together() -> None:
    with pytest.raises(ConfigError, match="signing key is missing"):
        Job.lead(recipe_for(secure=True, signers=SIGNERS), "grpc").securing()
    with pytest.raises(ConfigError, match="signing key is given, and the recipe names no signers"):
        Job.lead(recipe_for(secure=True), "grpc").securing(SECRETS[0])
    with pytest.raises(ConfigError, match=r"server\.signers is for server\.secure"):
        Job.lead(recipe_for(signers=SIGNERS), "grpc").server_core(0.0)
    with pytest.raises(ConfigError, match="is not among the 3 signers"):
        Job.lead(recipe_for(secure=True, signers=SIGNERS), "grpc").securing(bytes(32))


@pytest.mark.parametrize(
    ("server", "text"),
    [
        ({"secure": True, "signers": SIGNERS[:2]}, "a key for each worker, 3, got 2"),
        ({"secure": True, "signers": [*SIGNERS[:2], "xyz"]}, "64 hexadecimal digits"),
        ({"secure": True, "signers": "abc"}, "must be a list"),
    ],
)
def test_signers_that_cannot_be_are_refused(server: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        recipe_for(**server)


@pytest.mark.parametrize("driver", ["session", "messages", "simulate", "collective"])
def test_drivers_without_signing_keys_refuse_signers(driver: str) -> None:
    with pytest.raises(ConfigError, match="cannot be kept by"):
        require_kept(recipe_for(secure=True, signers=SIGNERS), driver)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no such device here")
def test_a_device_that_never_ends_is_no_key() -> None:
    with pytest.raises(ConfigError, match="holds no signing key"):
        read_signing_key(Path("/dev/zero"))
