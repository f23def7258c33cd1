"""`CompressedOptimizer` on narrow states (`narrow.py`): the same exchange with error feedback, block by block and in place.

    worker m   e_m <- e_m + clip(F_m(z));  c_m = C(e_m);    e_m <- e_m - c_m
    server     e <- e + mean c_m;          g = C_s(e);      e <- e - g
    replicas   z <- rule(z, g), g read from the downlink block by block

No step takes a vector of memory beside the states, the operator's value and what the compressors take.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlebag.algorithms.base import Message
from saddlebag.algorithms.optimizers.compressed import CompressedOptimizer, Memory, OptimizerReplica, OptimizerWorker
from saddlebag.algorithms.optimizers.narrow import IN_PLACE, add_clipped, clipped_narrow, narrow_init, update_in_place
from saddlebag.compression import Slices, feed_back_in_place
from saddlebag.errors import ConfigError

if TYPE_CHECKING:
    from saddlebag.algorithms.base import Operator
    from saddlebag.compression import Draws, Mean, Vector


@dataclasses.dataclass(frozen=True, kw_only=True)
class NarrowOptimizer(CompressedOptimizer):
    """See the module; a `Narrow` method."""

    narrow = True

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = {"memory": "feedback", "momentum_up": 1.0, "late": False, "local_steps": 1, "local_rule": "sgd"}
        wanted["common_range"] = 0.0
        for name, value in wanted.items():
            if (given := getattr(self, name)) != value:
                raise ConfigError(f"precision 'float32' needs {name} = {value!r}, got {given!r}; leave precision at 'float64'")
        if not self.rule.blockwise:
            raise ConfigError(
                f"precision 'float32' needs a rule that works coordinate by coordinate, got {type(self.rule).__name__}"
            )

    @property
    def unmergeable(self) -> str:
        return IN_PLACE

    def clip(self, value_D: Vector) -> Vector:
        return clipped_narrow(value_D, self.clip_norm)

    def init_replica(self, z_D: Vector) -> OptimizerReplica:
        rule, rest_D = narrow_init(self.rule, z_D)
        return OptimizerReplica(None, rule, rest_D)

    def restart(self, replica: OptimizerReplica) -> OptimizerReplica:
        return replica

    def init_worker(self, replica: OptimizerReplica) -> OptimizerWorker:
        return OptimizerWorker(np.zeros(len(replica.z_D), np.float32), None, None, None)

    def init_server(self, replica: OptimizerReplica) -> Memory:
        return Memory(np.zeros(len(replica.z_D), np.float32))

    def worker_step(
        self, replica: OptimizerReplica, own: OptimizerWorker, operator: Operator, draws: Draws
    ) -> tuple[OptimizerWorker, Message]:
        add_clipped(own.memory_D, operator(self._point(replica), draws), self.clip_norm)
        return own, Message((feed_back_in_place(self.up, own.memory_D, draws),))

    def server_step(
        self, replica: OptimizerReplica, own: Memory, means: tuple[Mean, ...], draws: Draws
    ) -> tuple[Memory, Message]:
        means[0].add_to(own.memory_D)
        return own, Message((feed_back_in_place(self.down, own.memory_D, draws),))

    def replay(self, replica: OptimizerReplica, down: Message, draws: Draws) -> OptimizerReplica:
        del draws
        assert replica.rest_D is not None, "narrow replicas have rests"
        pace = self._pace(replica.iteration)
        rule: Any = update_in_place(self.rule, replica.rule, replica.rest_D, Slices(down.parts[0]), pace)
        return OptimizerReplica(None, rule, replica.rest_D)
