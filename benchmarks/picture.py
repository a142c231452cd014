"""The README's picture: a generated tree, its noisy label and the refined one, as maximum projections of depth.

python benchmarks/picture.py bundle/docs/before_after.png
"""

import sys

import matplotlib as mpl
import numpy as np

from near_monai import refine
from near_monai.datasets.coronary_cases import phantom_pair

mpl.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Draw one tree three times."""
    noisy, truth, grid = phantom_pair(seed=7, number=3, level="moderate", spacing=(0.5, 0.5, 0.5))
    refined = refine(noisy.astype(np.uint8), grid.spacing) > 0
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), facecolor="white")
    for axis, mask, title in zip(axes, (noisy, refined, truth), ("noisy label", "refined", "truth"), strict=True):
        depth = np.where(mask, np.arange(mask.shape[1])[None, :, None], -1).max(1).astype(float)
        depth[depth < 0] = np.nan
        axis.imshow(depth.T, origin="lower", cmap="viridis", vmin=0, vmax=mask.shape[1])
        axis.set_title(title)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    main()
