"""What a run with noise promises: epsilon, by the package `dp-accounting`.

The unit is a worker: whoever sees all sums cannot tell a run from one without a worker's data, up to (epsilon, delta). In a
round the sum moves by at most `level_clip` with one worker's levels, whatever that worker remembers of earlier rounds, and its
noise has a standard deviation of at least noise * level_clip: rounds are Gaussian mechanisms one after the other, each chosen
by what the ones before have shown. Shares of the noise are of t workers, those who must be there for a sum to be unmasked;
more of them add more. A colluder knows his own share: with c of them sigma is smaller by sqrt((t - c) / t). Without masks the
server adds all of it, and promises nothing against itself.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

from saddlebag.algorithms.agreed.common_grid import require_shared
from saddlebag.algorithms.discrete_gaussian import LEAST_SIGMA, defect
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms import AnyMethod
    from saddlebag.compression import Vector
    from saddlebag.launch.recipe.recipe import Recipe

__all__ = ["Privacy", "gaussian_epsilon"]


@functools.lru_cache(maxsize=1024)
def gaussian_epsilon(noise: float, rounds: int, delta: float) -> float:
    """Epsilon of so many Gaussian mechanisms, one after the other, by Renyi divergences (Mironov 2017).

    Args:
        noise: standard deviation over sensitivity.
        rounds: how many.
        delta: for which.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from dp_accounting import GaussianDpEvent, SelfComposedDpEvent
        from dp_accounting.rdp import RdpAccountant
    except ImportError as error:
        raise ConfigError(f"server.noise needs the package {error.name}; pip install 'saddlebag[privacy]'") from error
    if not rounds:
        return 0.0
    accountant = RdpAccountant()
    accountant.compose(SelfComposedDpEvent(GaussianDpEvent(noise), rounds))
    return float(accountant.get_epsilon(delta))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Privacy:
    """The noise of a run.

    Attributes:
        noise: standard deviation of a sum's noise over what one worker can change of it.
        delta: for which epsilon is told.
        share: sigma of the noise of each who draws, in levels: of every worker, or of the server for all of them.
        numbers: that are drawn in a round.
        seen_by_server: whether the server sees single uplinks, so that nothing is promised against it.
    """

    noise: float
    delta: float
    share: float
    numbers: int
    seen_by_server: bool = False

    @classmethod
    def of(cls, recipe: Recipe, method: AnyMethod, start_D: Vector) -> Privacy | None:
        """What the recipe asks for; None without noise.

        Raises:
            ConfigError: the method does not bound what a worker sends, shares are too small, or the extra is not installed.
        """
        server = recipe.server
        if not server.noise:
            return None
        clip = require_shared(method, method.init_replica(start_D), "server.noise").clip
        if clip == math.inf:
            raise ConfigError("server.noise needs method.level_clip, which bounds what a worker can change of a sum")
        drawing = server.unmasking(recipe.workers) or 1
        share = server.noise * clip / math.sqrt(drawing)
        if share < LEAST_SIGMA:
            raise ConfigError(
                f"server.noise = {server.noise:g} is {share:g} levels for each who draws, and must be {LEAST_SIGMA:g} or more; "
                "take a finer grid (nearest_int8, a smaller method.common_range) and a larger method.level_clip"
            )
        numbers = len(start_D) * (recipe.workers if server.secure else 1)
        privacy = cls(noise=server.noise, delta=server.delta, share=share, numbers=numbers, seen_by_server=not server.secure)
        privacy.epsilon(1)
        return privacy

    def epsilon(self, rounds: int) -> float:
        """Of so many rounds; infinite where what the sampler leaves takes all of delta."""
        left = self.delta - rounds * self.numbers * defect(self.share)
        return gaussian_epsilon(self.noise, rounds, left) if left > 0 else math.inf

    def told(self, rounds: int) -> dict[str, Any]:
        """For result.json."""
        promised = {"unit": "worker", "epsilon": self.epsilon(rounds), "delta": self.delta, "noise": self.noise}
        return {**promised, "against": "those who see the downlinks"} if self.seen_by_server else promised
