"""Public names, and the rooms where they live: one table for Python, for configurations and for weights.

A configuration says ``near_monai.CodeEncoder``, as Python does; rooms can move without breaking a shared bundle.
"""

from __future__ import annotations

#: What the description of weights may name: sources of z, F, and both together.
OF_WEIGHTS = {
    "CodeEncoder": "networks.encoder",
    "CodeTable": "networks.code_table",
    "NearNetwork": "networks.network",
    "OccupancyField": "networks.field",
}
#: What a person needs in Python, beside these.
OF_PYTHON = {
    "Consensus": "refinement.consensus_map",
    "CorruptLabel": "corruption.corrupt_label",
    "Grid": "geometry.coordinates",
    "NearError": "errors",
    "NearInferer": "inferers.near_inferer",
    "NearWarning": "errors",
    "PointDataset": "datasets.point_dataset",
    "RefinedLabel": "refinement.one_array",
    "consensus": "refinement.consensus_map",
    "coronary_tree": "phantoms.coronary",
    "load_network": "networks.weight_files",
    "redraw": "inferers.saved_codes",
    "refine": "refinement.one_array",
    "score": "metrics.mask_metrics",
    "surface": "exports.one_surface",
    "tree": "trees.one_map",
}
#: What configurations need, beside all of these.
OF_CONFIGURATIONS = {
    "AdamWithTable": "training.optimiser",
    "AverageNorms": "training.handlers",
    "BoundaryBandd": "transforms.preprocessing",
    "CheckUnitsd": "transforms.preprocessing",
    "Checkpoints": "training.checkpoints",
    "CodePenalty": "training.losses",
    "ComposeStructuresd": "transforms.postprocessing",
    "CropToLabeld": "transforms.preprocessing",
    "EpochLine": "training.handlers",
    "LabelShapes": "datasets.label_shapes",
    "LeaveCores": "training.handlers",
    "MapShapes": "datasets.label_shapes",
    "OrganShapes": "datasets.label_shapes",
    "PairedScores": "training.handlers",
    "PickLabeld": "transforms.preprocessing",
    "PickStructuresd": "transforms.preprocessing",
    "PointDiceFocalLoss": "training.losses",
    "Progress": "runs.inference_progress",
    "ReadLabeld": "transforms.preprocessing",
    "RepairMaskd": "transforms.postprocessing",
    "SaveRefinedd": "transforms.postprocessing",
    "ServeEpoch": "training.handlers",
    "Shrinkd": "transforms.preprocessing",
    "SignedDistanced": "transforms.preprocessing",
    "TableInferer": "inferers.near_inferer",
    "TolerantDataset": "runs.tolerant_dataset",
    "TroubleWatch": "training.handlers",
    "WorkingGridd": "transforms.preprocessing",
    "WorkingSpace": "geometry.working_space",
    "claim_folder": "runs.configuration",
    "compare_with_start": "training.checkpoints",
    "evaluation_items": "datasets.coronary_cases",
    "hand_over": "training.checkpoints",
    "heart_items": "datasets.heart_cases",
    "heart_training_cases": "datasets.heart_cases",
    "inference_items": "data.case_lists",
    "join_processes": "training.handlers",
    "learn_own_judge": "training.own_judge",
    "calibrate_volume": "training.volume_calibration",
    "load_best": "training.checkpoints",
    "load_state": "networks.weight_files",
    "one_shape": "runs.tolerant_dataset",
    "organ_training_cases": "datasets.heart_cases",
    "phantom_items": "datasets.coronary_cases",
    "pick_device": "networks.weight_files",
    "resume": "training.checkpoints",
    "save_table_codes": "training.table_codes",
    "start_from": "training.checkpoints",
    "structure_items": "datasets.heart_cases",
    "structure_of": "anatomy",
    "table_items": "datasets.coronary_cases",
    "training_cases": "datasets.coronary_cases",
}
HOMES = OF_WEIGHTS | OF_PYTHON | OF_CONFIGURATIONS


def public_name(kind: type) -> str:
    """The name by which a class is known outside: that of the table, or its own for one that is not ours."""
    if HOMES.get(kind.__qualname__) == kind.__module__.removeprefix("near_monai."):
        return f"near_monai.{kind.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"
