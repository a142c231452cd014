"""MONAI transforms from a label file to what the networks work on. Sizes are in mm unless said otherwise."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.anatomy import HEART
from near_monai.data.class_selection import AUTO, check_structure, choose_label, mask_of, parse_class, refuse_strangers
from near_monai.errors import NearError
from near_monai.formats.label_maps import read_label
from near_monai.formats.voxel_values import labels_of
from near_monai.geometry.boxes import box_of, crop_box
from near_monai.geometry.coordinates import Grid, Placed, check_same_grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.units import check_units

#: What MONAI calls the file of an image, in its ``meta``.
FILE = "filename_or_obj"
#: In the ``meta`` of masks of a map in memory: the map.
LABEL_MAP = "label_map"


def boundary_band(
    mask: NDArray[np.bool_], radius: float, spacing: tuple[float, float, float] | None = None
) -> NDArray[np.bool_]:
    """dilate(mask, radius) minus erode(mask, radius), with balls of ``radius`` mm, or voxels without ``spacing``."""
    outside = ndimage.distance_transform_edt(~mask, spacing) if mask.any() else np.full(mask.shape, np.inf)
    inside = ndimage.distance_transform_edt(mask, spacing) if not mask.all() else np.full(mask.shape, np.inf)
    return (outside <= radius) & (inside <= radius)


def _grid(image: MetaTensor) -> Grid:
    return Grid.under(image.affine, image.shape[1:])


def label_image(image: Any, where: str) -> MetaTensor:
    """An image in memory as a label map ``(1, X, Y, Z)`` of whole numbers.

    Args:
        image: a MetaTensor, tensor or array, ``(X, Y, Z)`` or ``(1, X, Y, Z)``, of any type that holds whole numbers
            (MONAI's own ``LoadImaged`` gives floats). What has no affine has voxels of 1 mm.
        where: name for the error message, if the image has no ``filename_or_obj``.

    Raises:
        NearError: another shape, or values that are no classes.
    """
    meta = dict(image.meta) if isinstance(image, MetaTensor) else {"affine": torch.eye(4, dtype=torch.float64)}
    where = str(meta.get(FILE, where))
    array = image.cpu().numpy() if isinstance(image, torch.Tensor) else np.array(image)
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or len(array) != 1:
        raise NearError(f"{where}: shape {array.shape}; expected one label map (X, Y, Z) or (1, X, Y, Z)")
    if array.dtype not in (np.uint8, np.uint16):
        array = labels_of([array.ravel(order="F")], where).reshape(array.shape, order="F")
    return MetaTensor(torch.as_tensor(array), meta=meta)


def _picked(masks: NDArray[np.bool_], image: MetaTensor) -> MetaTensor:
    """Masks of a label map, float32; they keep a map that no file holds, so that its other classes can be written."""
    kept = {} if FILE in image.meta else {LABEL_MAP: image[0].numpy()}
    return MetaTensor(torch.as_tensor(masks.astype(np.float32)), meta={**image.meta, **kept})


class ReadLabeld(MapTransform):
    """Read label files (NIfTI, NRRD, MetaImage) as ``(1, X, Y, Z)`` MetaTensors of whole numbers."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace every path under the keys; the affine is RAS in mm.

        Files are read by :func:`near_monai.formats.label_maps.read_label`.

        Images that are in memory already are taken as they are, see :func:`label_image`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            if not isinstance(out[key], str | Path):
                out[key] = label_image(out[key], str(key))
                continue
            file = read_label(out[key])
            out[key] = MetaTensor(
                torch.as_tensor(file.array[None]), torch.as_tensor(file.affine), {FILE: str(file.path)}
            )
        return out


class PickLabeld(MapTransform):
    """Pick one class of a multi-class map as a 0/1 mask.

    Args:
        keys: label maps of one case, all on one grid, see :func:`label_image`.
        label: class, ``"fg"`` for all above 0, or ``"auto"`` for the only class, else the coronary arteries; chosen in
            the first map, and the same in the others.
        structure: name of the only structure of the anatomy table that the class may stand for; ``None`` for any. What
            is alone in its map may be anything.
        allow_empty: whether an empty map gives an empty mask.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label: int | str = AUTO,
        structure: str | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(keys)
        self.label = parse_class(label)
        self.structure = structure
        self.allow_empty = allow_empty

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Masks as float32.

        Raises:
            NearError: the map is empty, the class is absent or stands for another structure, or the grids differ.
        """
        out = dict(data)
        maps = {key: label_image(out[key], str(key)) for key in self.key_iterator(out)}
        places = {
            key: Placed(image.shape[1:], image.affine, str(image.meta.get(FILE, key))) for key, image in maps.items()
        }
        first, label = next(iter(places.values())), self.label
        for key, image in maps.items():
            where = places[key].name
            check_same_grid(places[key], first)
            array = image.numpy()
            if self.allow_empty and not array.any():
                out[key] = _picked(array > 0, image)
                continue
            label = choose_label(array, label, where)
            if self.structure:
                check_structure(array, label, self.structure, where)
            out[key] = _picked(mask_of(array, label), image)
        return out


class PickStructuresd(MapTransform):
    """Split a multi-class map into one 0/1 mask per structure of the anatomy table, in its order."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, X, Y, Z)`` label maps to ``(C, X, Y, Z)`` float32 masks; structures that are absent are empty."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = label_image(out[key], str(key))
            refuse_strangers(image.numpy(), HEART, str(image.meta.get(FILE, key)))
            masks = np.concatenate([image.numpy() == structure.index for structure in HEART.structures])
            out[key] = _picked(masks, image)
        return out


class CheckUnitsd(MapTransform):
    """Refuse masks whose spacing cannot be in mm, see :func:`near_monai.geometry.units.check_units`.

    Args:
        keys: masks ``(C, X, Y, Z)``.
        scale: of the structure that they show; ``None`` for one channel per structure of the anatomy table.
    """

    def __init__(self, keys: KeysCollection, scale: float | None = None) -> None:
        super().__init__(keys)
        self.scale = scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The data pass unchanged.

        Raises:
            NearError: the spacing of one is no length in mm.
        """
        for key in self.key_iterator(data):
            image = data[key]
            masks = image.cpu().numpy() > 0
            scales = [row.scale for row, mask in zip(HEART.structures, masks, strict=False) if mask.any()]
            scale = max(scales, default=1.0) if self.scale is None else self.scale
            if masks.any():
                where = str(image.meta.get(FILE, key))
                check_units(box_of(masks.any(axis=0)), _grid(image).spacing, scale, where)
        return dict(data)


class Shrinkd(MapTransform):
    """Make what images show ``factor`` times smaller: the voxels stay, their size in mm shrinks.

    Args:
        keys: images.
        factor: how many times; ``None`` for the scale of the structure that an item names under `structure`.
    """

    def __init__(self, keys: KeysCollection, factor: float | None) -> None:
        super().__init__(keys)
        self.factor = factor

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(C, X, Y, Z)`` MetaTensors with another affine."""
        out = dict(data)
        factor = HEART.by_name(str(out["structure"])).scale if self.factor is None else self.factor
        for key in self.key_iterator(out):
            affine = out[key].affine.clone()
            affine[:3] /= factor
            out[key] = MetaTensor(out[key].as_tensor(), meta={**out[key].meta, "affine": affine})
        return out


class CropToLabeld(MapTransform):
    """Crop masks ``(1, X, Y, Z)`` to their bounding box plus ``margin_mm``, as far as the volume reaches."""

    def __init__(self, keys: KeysCollection, margin_mm: float = 10.0) -> None:
        super().__init__(keys)
        self.margin_mm = margin_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop; the affine follows."""
        out = dict(data)
        for key in self.key_iterator(out):
            box = crop_box(out[key][0].numpy() > 0, _grid(out[key]).spacing, self.margin_mm)
            out[key] = SpatialCrop(roi_start=box.start, roi_end=box.stop)(out[key])
        return out


class SignedDistanced(MapTransform):
    """Masks to signed distances in mm, negative inside, cut off at ``truncate_mm``."""

    def __init__(self, keys: KeysCollection, truncate_mm: float = 3.0) -> None:
        super().__init__(keys)
        self.truncate_mm = truncate_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, X, Y, Z)`` to the same shape, float32."""
        out = dict(data)
        for key in self.key_iterator(out):
            distance = signed_distance(out[key][0].numpy(), _grid(out[key]).spacing, self.truncate_mm)
            out[key] = MetaTensor(torch.as_tensor(distance[None]), meta=out[key].meta)
        return out


class WorkingGridd(MapTransform):
    """Resample signed distances (never masks) to isotropic voxels of ``spacing_mm``, linearly."""

    def __init__(self, keys: KeysCollection, spacing_mm: float = 0.5) -> None:
        super().__init__(keys)
        self.spacing_mm = spacing_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, X, Y, Z)`` to ``(1, D, H, W)``; the outer faces of the field of view stay where they are."""
        out = dict(data)
        for key in self.key_iterator(out):
            native = _grid(out[key])
            working = native.isotropic(self.spacing_mm)
            found = sample_axes(out[key].as_tensor()[None], working.axes_in(native))[0]
            affine = torch.as_tensor(working.affine_from(out[key].affine.numpy(), native))
            out[key] = MetaTensor(found, meta={**out[key].meta, "affine": affine})
        return out


class BoundaryBandd(MapTransform):
    """Masks to their boundary band: dilate(M, r) minus erode(M, r).

    Args:
        keys: masks ``(1, X, Y, Z)``.
        radius: r.
        unit: unit of r.
    """

    def __init__(self, keys: KeysCollection, radius: float = 2.0, unit: Literal["voxel", "mm"] = "voxel") -> None:
        super().__init__(keys)
        self.radius = radius
        self.unit = unit

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """``(1, X, Y, Z)`` to the same shape, float32 0/1."""
        out = dict(data)
        for key in self.key_iterator(out):
            spacing = _grid(out[key]).spacing if self.unit == "mm" else None
            band = boundary_band(out[key][0].numpy() > 0, self.radius, spacing)
            out[key] = MetaTensor(torch.as_tensor(band[None].astype(np.float32)), meta=out[key].meta)
        return out
