"""A link for Lightning's `Trainer`: one line, `Trainer(callbacks=[saddlebag.LightningLink("server:7070", rank=0)])`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saddlebag.errors import ConfigError
from saddlebag.launch.link.joining import join

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:  # the name stands, for whoever looks through all of them
    Callback = object  # type: ignore[misc,assignment]

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saddlebag.client.link.link import Link

__all__ = ["LightningLink"]


class LightningLink(Callback):
    """Links a Lightning `Trainer` with other programs: every step of its optimizer is one of the link's, at the end it leaves.

    The link's state lies in Lightning's checkpoints, so `fit(..., ckpt_path=...)` goes on with it.

    Args:
        address: HOST:PORT of the server.
        **given: as `saddlebag.join` takes them: method, every, rank, ...

    Attributes:
        link: once training has begun.

    Raises:
        ConfigError: Lightning is not installed.

    Example:
        >>> callback = LightningLink("server:7070", method="sparse_loco", every=30, rank=0)  # doctest: +SKIP
        >>> trainer = lightning.Trainer(callbacks=[callback])  # doctest: +SKIP
    """

    link: Link | None = None

    def __init__(self, address: str, **given: Any) -> None:
        if Callback is object:
            raise ConfigError("LightningLink is for Lightning's Trainer: install lightning")
        super().__init__()
        self._address, self._given = address, given
        self._kept: Mapping[str, Any] | None = None
        self._steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Join; where a checkpoint with the link's state was loaded, from there.

        Raises:
            ConfigError: there are several optimizers.
        """
        if len(trainer.optimizers) != 1:
            raise ConfigError(f"a link counts the steps of one optimizer, this module has {len(trainer.optimizers)}")
        self.link = join(self._address, pl_module, trainer.optimizers[0], **self._given)
        if self._kept is not None:
            self.link.load_state_dict(self._kept)
        self.link.begin()
        self._steps = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count what the optimizer has stepped: none, while gradients are accumulated."""
        assert self.link is not None
        while self._steps < trainer.global_step:
            self._steps += 1
            self.link.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Exchange what is left, and leave."""
        assert self.link is not None
        self.link.finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Go without a word."""
        if self.link is not None:
            self.link.drop()

    def state_dict(self) -> dict[str, Any]:
        """The link's, for the checkpoint."""
        return {} if self.link is None else self.link.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's for the beginning."""
        self._kept = state_dict or None
