"""MONAI transforms from F's probability to a file."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SaveImaged
from numpy.typing import NDArray

from near_monai.anatomy import HEART, VESSEL, Structure, by_name
from near_monai.data.case_lists import case_name, file_of
from near_monai.data.class_selection import ALL, AUTO, EMPTY, Selection, choose_label, parse_class
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, read_label, write_label
from near_monai.fusion.class_replacement import put_back
from near_monai.fusion.consistent_map import compose
from near_monai.geometry.coordinates import Grid, Placed, check_same_grid
from near_monai.refinement.all_structures import repair_structures
from near_monai.repair.judge import judge_of
from near_monai.repair.mask_repair import repair
from near_monai.runs.inference_progress import Progress
from near_monai.transforms.preprocessing import FILE, LABEL_MAP

logger = logging.getLogger("near_monai")


class RepairMaskd(MapTransform):
    """:func:`near_monai.repair.mask_repair.repair`: F's probability ``(1, X, Y, Z)`` becomes a mask.

    Args:
        keys: probabilities, as :class:`near_monai.NearInferer` gives them.
        label_key: the noisy mask that they belong to, same shape.
        clean: also join torn-off pieces, and drop small ones that could not be joined.
        structure: what the masks show, in voxels that are as many times smaller as its scale says (see
            :class:`near_monai.Shrinkd`); ``None`` for what an item names under `structure`, else a coronary.
        network: what gave the probabilities: its weights may bring a judge of joints of their own.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "image",
        clean: bool = True,
        structure: Structure | None = None,
        network: torch.nn.Module | None = None,
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.clean = clean
        self.structure = structure
        self.network = network

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Same shape and type; voxel sizes come from the MetaTensor."""
        out = dict(data)
        noisy = out[self.label_key][0].cpu().numpy() > 0
        structure, judge = self.structure or by_name(str(out.get("structure", VESSEL.name))), judge_of(self.network)
        for key in self.key_iterator(out):
            probability = _placed(out[key], out[self.label_key])
            grid = Grid.under(probability.affine, noisy.shape)
            likely = probability[0].cpu().numpy()
            repaired = repair(noisy, likely, grid, clean=self.clean, structure=structure, judge=judge)
            out[key] = MetaTensor(torch.as_tensor(repaired.mask[None]).to(probability), meta=probability.meta)
        return out


class ComposeStructuresd(MapTransform):
    """Probabilities of all structures ``(C, X, Y, Z)`` become one label map.

    See :func:`near_monai.fusion.consistent_map.compose`.

    Args:
        keys: probabilities, as :class:`near_monai.NearInferer` gives them.
        label_key: the noisy masks that they belong to, as :class:`near_monai.PickStructuresd` gives them.
    """

    def __init__(self, keys: KeysCollection, label_key: str = "image") -> None:
        super().__init__(keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, X, Y, Z)`` label maps; voxel sizes come from the MetaTensor."""
        out = dict(data)
        masks = out[self.label_key].cpu().numpy() > 0
        before = np.zeros(masks.shape[1:], np.uint8)
        for structure, mask in zip(HEART.structures, masks, strict=True):
            before[mask] = structure.index
        for key in self.key_iterator(out):
            probability = _placed(out[key], out[self.label_key])
            grid = Grid.under(probability.affine, before.shape)
            claims = [claim for claim, _ in repair_structures(masks, probability.cpu().numpy(), grid)]
            composed = compose(claims, before, grid)
            out[key] = MetaTensor(torch.as_tensor(composed.array[None]), meta=probability.meta)
        return out


def _placed(probability: torch.Tensor, image: torch.Tensor) -> MetaTensor:
    """A probability that knows where it lies: there, where the image does, if nobody said so."""
    if isinstance(probability, MetaTensor):
        return probability
    return MetaTensor(probability, meta=image.meta if isinstance(image, MetaTensor) else None)


class SaveRefinedd(SaveImaged):
    """Writes refined masks as label maps, with name, grid and header of the file that they came from.

    A map that was given in memory is written as NIfTI, named by the item's `name` or a number that is free. A
    :class:`monai.transforms.SaveImaged`, so that who writes files himself can leave it out, as MONAI Label does.

    Args:
        keys: refined masks, or label maps of all structures, ``(1, X, Y, Z)`` on the grid of their map.
        output_dir: target folder.
        label: class that was refined, as in :class:`near_monai.PickLabeld`; ``"all"`` for label maps.
        progress: where it is kept which cases are finished, if a run is to go on after an interruption.
    """

    def __init__(
        self, keys: KeysCollection, output_dir: str | Path, label: int | str = AUTO, progress: Progress | None = None
    ) -> None:
        super().__init__(keys, output_dir=output_dir)
        self.output_dir = Path(output_dir)
        self.label = ALL if label == ALL else parse_class(label)
        self.progress = progress

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write; the data pass unchanged.

        Raises:
            NearError: the result is there already, is not on the grid of its map, or cannot be written.
        """
        for key in self.key_iterator(data):
            refined = data[key]
            source = _source_of(refined, self.label)
            place = Placed(refined.shape[1:], source.affine, str(key))
            if isinstance(refined, MetaTensor):
                place = place._replace(affine=refined.affine.cpu().numpy())
            check_same_grid(place, source.placed)
            fused = self._fused(refined[0].cpu().numpy(), source)
            self._write(str(data["name"]) if "name" in data else None, fused, source)
        return dict(data)

    def _write(self, name: str | None, fused: NDArray[Any], source: LabelMap) -> None:
        """Write a case, and keep that it is written."""
        target = self._target(name, source)
        if self.progress is None or name is None or source.path is None:
            if target.exists():
                raise NearError(f"{target}: is there already; give an empty output_dir, so that nothing is overwritten")
            write_label(target, fused, source)
        else:
            self.progress.begin(name, source.path)
            write_label(target, fused, source)
            self.progress.done(name, source.path)

    def _fused(self, refined: NDArray[Any], source: LabelMap) -> NDArray[Any]:
        """The map with its refined class, or classes."""
        where = str(source.path or LABEL_MAP)
        if not source.array.any():
            logger.warning("%s: %s", where, EMPTY)
            return source.array
        if self.label is ALL:
            unknown = (source.array > 0) & ~HEART.knows(source.array)
            return np.where(unknown, source.array, refined)
        chosen = choose_label(source.array, self.label, where)
        return put_back(source.array, source.grid, refined > 0, source.grid, chosen)

    def _target(self, name: str | None, source: LabelMap) -> Path:
        """Where a case goes."""
        if source.path is not None:
            return self.output_dir / file_of(name or case_name(source.path), source.path)
        if name is not None:
            return self.output_dir / f"{name}.nii.gz"
        names = (self.output_dir / f"{number}.nii.gz" for number in itertools.count())
        return next(path for path in names if not path.exists())


def _source_of(refined: torch.Tensor, label: int | Selection) -> LabelMap:
    """The map that a refined mask belongs to: its file, what was given in memory, or the mask itself."""
    meta = refined.meta if isinstance(refined, MetaTensor) else {}
    if meta.get(FILE):
        return read_label(meta[FILE])
    mask = (refined[0].cpu().numpy() > 0) * (label if isinstance(label, int) else 1)
    array = np.asarray(meta.get(LABEL_MAP, mask)).astype(np.uint16)
    return LabelMap.from_array(array, refined.affine.cpu().numpy() if isinstance(refined, MetaTensor) else np.eye(4))
