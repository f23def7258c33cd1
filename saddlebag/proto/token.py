"""Secrets of a run, and the tokens made from them: one for each rank, of use for no other."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TOKEN", "accepts", "bound_ranks", "rank_token"]

TOKEN = "SADDLEBAG_TOKEN"
"""The variable of the environment in which a process finds its secret or token: not in its arguments, which everybody sees."""

_NAME = re.compile(r"worker-([0-9]{1,9})(\..*)?")


def rank_token(secret: str, recipe: str, worker: int) -> str:
    """The token of one worker of a run: HMAC-SHA256 over recipe and rank, keyed with the run's secret.

    Args:
        secret: of the run; who has only a token cannot find it, nor the token of another rank or run.
        recipe: canonical JSON.
        worker: rank.

    Example:
        >>> rank_token("secret", "{}", 3)[:17]
        'worker-3.89ee9055'
    """
    told = f"saddlebag token 1\n{worker}\n{recipe}".encode()
    return f"worker-{worker}.{hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()}"


def accepts(token: str, secret: str, recipe: str, worker: int) -> bool:
    """Whether somebody may be this worker: who shows its token, or the run's secret itself, with which he may be any."""
    shown = token.encode()
    own = hmac.compare_digest(shown, rank_token(secret, recipe, worker).encode())
    return hmac.compare_digest(shown, secret.encode()) or own


def bound_ranks(names: Iterable[str]) -> set[int]:
    """The ranks that a certificate's names allow; none where it names no worker, and then it may be any.

    Example:
        >>> bound_ranks(["worker-3", "worker-12.example.org", "laptop"]) == {3, 12}
        True
    """
    return {int(found[1]) for found in map(_NAME.fullmatch, names) if found}
