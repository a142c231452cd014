"""One class of a label map: what it is taken for, what counts of it, and the network that refines it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from near_monai.anatomy import Anatomy, Structure
from near_monai.data.class_selection import OneClass, choose_label, mask_of
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.boxes import occupied, voxels_where
from near_monai.geometry.components import Components
from near_monai.geometry.units import check_units
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.evidence import Evidence
from near_monai.inferers.saved_codes import SavedCode, described
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import shipped
from near_monai.refinement.all_structures import Networks
from near_monai.refinement.class_meaning import meaning_of
from near_monai.refinement.one_structure import RefinedPart, refine_parts
from near_monai.refinement.options import Options
from near_monai.repair.judge import Bounds


@dataclass(frozen=True, eq=False)
class Subject:
    """One class of a map, and how it is refined.

    Attributes:
        label: the class.
        structure: what it is taken for.
        evidence: all of its components, and which of them count.
        network: what refines it.
        space: the working space of ``network``.
    """

    label: OneClass
    structure: Structure
    evidence: Evidence
    network: NearNetwork
    space: WorkingSpace

    def refined_parts(self, file: LabelMap, clean: bool | Bounds, anatomy: Anatomy) -> Iterator[RefinedPart]:
        """The refined parts on the grid of the map, see :func:`near_monai.refinement.one_structure.refine_parts`."""
        of, by = (self.label, self.evidence), (self.network, self.space)
        return refine_parts(file.array, file.grid, *of, *by, clean, self.structure, anatomy)

    def saved(self, file: LabelMap, parts: Sequence[RefinedPart]) -> SavedCode:
        """z of the case, as a file."""
        reference = self.structure.size.shrunk(file.grid)
        codes = tuple(replace(code, reference=reference) for part in parts for code in part.refined.codes)
        return SavedCode(codes, file.affine, described(self.network), (self.structure,))


def subject_in(file: LabelMap, options: Options, networks: Networks, anatomy: Anatomy, where: str) -> Subject:
    """Which class of a map ``options`` mean, and by what it is refined.

    Raises:
        NearError: see :func:`near_monai.refinement.class_meaning.meaning_of` and
            :func:`near_monai.geometry.units.check_units`.
    """
    labelled = file.array[occupied(file.array).slices()]  # a scan is a hundred times larger than its labels
    label = choose_label(labelled, options.label, where, anatomy, options.structure)
    given = networks(options.weights)[0].description if options.weights else None
    table = anatomy if options.table else None
    structure = meaning_of(labelled, label, table, options.structure, given, where)
    return subject_of(file, label, structure, networks(options.weights or shipped(structure.weights)), where)


def subject_of(
    file: LabelMap, label: OneClass, structure: Structure, by: tuple[NearNetwork, WorkingSpace], where: str
) -> Subject:
    """A class of a map that is known to be ``structure``, to be refined ``by`` a network and its working space.

    Raises:
        NearError: see :func:`near_monai.geometry.units.check_units`.
    """
    found = Components.at(voxels_where(file.array, lambda plane: mask_of(plane, label)), file.array.shape)
    evidence = Evidence.of(found, structure.size.shrunk(file.grid).spacing)
    check_units(evidence.box, file.grid.spacing, structure.scale, where)
    return Subject(label, structure, evidence, *by)
