"""The model card of weights that somebody trained: what they say of themselves, and no figure of anyone else's."""

from __future__ import annotations

from typing import Any

from near_monai.networks.model_description import Description

CARD = """# Model card: {title} label refinement

Weights of: {structures}. Noisy label maps in, clean ones out on the same grid. Input is a label map, not an image.
Research only, not for clinical use.

**Whose data.** {data}. {count}

**Authors of the weights.** {authors}.

**Training.** near_monai {version}{date}. {settings}

**Network.** Working voxels of {spacing:g} mm in the scale of the structure; fingerprint of the numbers `{fingerprint}`.
`configs/inference.json` and the metadata of the file of weights say the rest.

**Figures.** None are known for these weights. Measure them on label maps with a truth:

    python -m monai.bundle run evaluating --config_file configs/evaluate.json --dataset_dir DATASET --output_dir scores

`near_monai.md` is the model card of the weights that near_monai ships; its figures are of those. Weights of other
structures in `models` are the shipped ones.
"""


def model_card(description: Description) -> str:
    """The card of ``description``, Markdown."""
    training: dict[str, Any] = description.training
    settings = ", ".join(f"{key} {value}" for key, value in training.get("settings", {}).items())
    counts = [f"{training[key]} {word}" for key, word in COUNTS.items() if key in training]
    return CARD.format(
        title=description.names[0].replace("_", " ") if len(description.names) == 1 else "heart",
        structures=", ".join(description.names),
        data=training.get("data", "Unknown"),
        count=f"Cases: {', '.join(counts)}." if counts else "",
        authors=training.get("authors", "The person who trained them, who gave no name"),
        version=description.version,
        date=f", {training['date']}" if "date" in training else "",
        settings=f"Settings: {settings}." if settings else "",
        spacing=description.space.spacing,
        fingerprint=description.fingerprint,
    )


COUNTS = {"own_cases": "label maps", "generated_cases": "generated shapes"}
