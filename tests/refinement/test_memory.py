"""Memory of the whole command follows the label, whatever the format and the type of the file."""

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

SCAN, LARGE = (512, 512, 225), (1024, 1024, 900)
AFFINE = np.diag([0.35, 0.35, 0.5, 1.0])


def sparse(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A bent vessel of 9 voxels through the middle half of a volume, in the order of files."""
    array = np.zeros(shape, np.uint8, order="F")
    j, k = np.ogrid[-4:5, -4:5]
    disc = np.hypot(j, k) <= 4
    for i in range(shape[0] // 4, shape[0] * 3 // 4):
        y, z = (
            shape[1] // 2 + int(0.06 * shape[1] * np.sin(i / 24)),
            shape[2] // 2 + int(0.05 * shape[2] * np.cos(i / 30)),
        )
        array[i, y - 4 : y + 5, z - 4 : z + 5] |= disc
    return array


def nifti(kind: str, slope: float = 1.0) -> Callable[[Path, NDArray[np.uint8]], None]:
    def write(path: Path, array: NDArray[np.uint8]) -> None:
        content = bytearray(nib.Nifti1Image((array * (1 / slope)).astype(kind), AFFINE).to_bytes())
        struct.pack_into("<2f", content, 112, slope, 0)
        path.write_bytes(gzip.compress(content, 1))

    return write


def itk(kind: int, packed: bool) -> Callable[[Path, NDArray[np.uint8]], None]:
    return lambda path, array: sitk.WriteImage(sitk.Cast(sitk.GetImageFromArray(array.T), kind), str(path), packed)


FILES: dict[str, tuple[Callable[[Path, NDArray[np.uint8]], None], tuple[int, int, int], float]] = {
    "uint8.nii.gz": (nifti("<u1"), SCAN, 1.2),
    "slope.nii.gz": (nifti("<i2", 0.5), SCAN, 1.2),
    "float32.nii.gz": (nifti("<f4"), SCAN, 1.2),
    "uint8.nrrd": (itk(sitk.sitkUInt8, True), SCAN, 1.2),
    "float32.nrrd": (itk(sitk.sitkFloat32, False), SCAN, 1.2),
    "int16.mha": (itk(sitk.sitkInt16, False), SCAN, 1.2),
    "int64.mha": (itk(sitk.sitkInt64, True), SCAN, 1.2),
    "large.nii.gz": (nifti("<u1"), LARGE, 2.5),
}
COMMAND = """import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "near_monai", "refine", *sys.argv[1:]])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FILES)
def test_peak_of_the_command(tmp_path: Path, name: str) -> None:
    write, shape, limit = FILES[name]
    write(tmp_path / name, sparse(shape))
    arguments = [str(tmp_path / name), "-o", str(tmp_path / "out"), "--quiet", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scale = 1e9 if sys.platform == "darwin" else 1e6
    assert int(done.stdout.split()[-1]) / scale <= limit
    assert (tmp_path / "out" / name).is_file()
