"""How label maps are refined: one set of options for the command, for Python and for the bundle."""

from __future__ import annotations

from dataclasses import dataclass

from near_monai.data.class_selection import AUTO, Selection
from near_monai.repair.judge import Bounds


@dataclass(frozen=True)
class Options:
    """How to refine label maps.

    Attributes:
        label: class that is refined, or that is found out in every map; all of the table are fused in the end.
        weights: weights file, ``None`` for the shipped ones; for all classes one function of all structures.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        resolution: ``None`` for the original grid; N for a cube of N^3 voxels around the label.
        save_codes: also write z of every case.
        save_probability: also write F on the output grid.
        clean: also reconnect torn-off pieces and drop small ones that could not be joined; see
            :func:`near_monai.repair.mask_repair.repair`.
        table: anatomy table, ``None`` for the heart's.
        structure: what the class is, by its name in the table; ``None`` for the rule of
            :func:`near_monai.refinement.class_meaning.meaning_of`.
    """

    label: int | Selection = AUTO
    weights: str | None = None
    device: str = "auto"
    resolution: int | None = None
    save_codes: bool = False
    save_probability: bool = False
    clean: bool | Bounds = True
    table: str | None = None
    structure: str | None = None
