"""A link for Hugging Face's `Trainer`: one line, `trainer.add_callback(saddlebag.LinkCallback("server:7070", rank=0))`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saddlebag.errors import ConfigError
from saddlebag.launch.link.joining import join

try:
    from transformers import TrainerCallback
except ImportError:  # the name stands, for whoever looks through all of them
    TrainerCallback = object  # type: ignore[misc,assignment]

if TYPE_CHECKING:
    from saddlebag.client.link.link import Link

__all__ = ["LinkCallback"]

_FILE = "link.pt"  # in the trainer's checkpoints


class LinkCallback(TrainerCallback):
    """Links a `Trainer` with other programs: every step of its optimizer is one of the link's, at the end it leaves.

    The link's state lies in the trainer's checkpoints, so `trainer.train(resume_from_checkpoint=True)` goes on with it.

    Args:
        address: HOST:PORT of the server.
        **given: as `saddlebag.join` takes them: method, every, rank, ...

    Attributes:
        link: once training has begun.

    Raises:
        ConfigError: transformers is not installed.

    Example:
        >>> callback = LinkCallback("server:7070", method="sparse_loco", every=30, rank=0)
        >>> callback.link is None  # it joins when `trainer.train()` begins
        True
    """

    link: Link | None = None

    def __init__(self, address: str, **given: Any) -> None:
        if TrainerCallback is object:
            raise ConfigError("LinkCallback is for transformers' Trainer: install transformers and accelerate")
        self._address, self._given = address, given

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Join; of a training that is resumed with the link's state."""
        self.link = join(self._address, known["model"], known["optimizer"], **self._given)
        kept = _place(args, state)
        if state.global_step and kept.exists():
            self.link.load_state_dict(torch.load(kept, weights_only=True))

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """A step of the optimizer was made."""
        assert self.link is not None
        self.link.step()

    def on_save(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Keep the link's state in the checkpoint that was written."""
        assert self.link is not None
        if _place(args, state).parent.is_dir():
            torch.save(self.link.state_dict(), _place(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        """Exchange what is left, and leave."""
        assert self.link is not None
        self.link.finish()


def _place(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE
