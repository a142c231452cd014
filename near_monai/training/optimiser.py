"""Adam for networks with a code table: dense where gradients are dense, lazy where they are sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer, SparseAdam


class AdamWithTable(Optimizer):
    """`Adam` for the network and `SparseAdam` for its embeddings, behind one optimiser's interface.

    Dense Adam would keep moving the code of a case that is absent from the batch, by momentum. Schedulers and
    checkpoints see one list of parameter groups and one state.

    Args:
        network: module whose ``nn.Embedding(sparse=True)`` weights are the code table.
        lr: learning rate.
    """

    def __init__(self, network: nn.Module, lr: float = 5e-4) -> None:
        table = [m.weight for m in network.modules() if isinstance(m, nn.Embedding) and m.sparse]
        kept = {id(weight) for weight in table}
        rest = [p for p in network.parameters() if id(p) not in kept]
        self.parts: list[Optimizer] = [part(p, lr=lr) for part, p in ((Adam, rest), (SparseAdam, table)) if p]
        super().__init__([*rest, *table], {"lr": lr})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every part."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of every part."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """States of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; the groups stay shared with the parts."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
