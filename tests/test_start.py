"""The command starts at once: refining loads neither MONAI nor what only training, pages and pictures need."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

HEAVY = ("monai", "ignite", "itk", "matplotlib", "plotly", "pandas", "jinja2")
CODE = f"""
import sys
from near_monai.cli import app
app(sys.argv[1:], standalone_mode=False)
print("loaded:", *[name for name in {HEAVY} if name in sys.modules])
"""


def test_refining_one_map_loads_no_monai(tmp_path: Path) -> None:
    _, y, z = np.indices((60, 24, 24)) * 0.5
    vessel = np.hypot(y - 6, z - 6) < 1.5
    nib.save(nib.Nifti1Image(vessel.astype(np.uint8), np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "case.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", CODE, "refine", str(tmp_path / "case.nii.gz"), "-o", str(tmp_path / "out"), "--quiet"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "case.nii.gz").exists()
    assert done.stdout.splitlines()[-1] == "loaded:"
