"""Centrelines by VMTK of the closed surfaces in an .npz; needs numpy, vtk and vmtk, and nothing of near_monai.

    python benchmarks/vmtk_process.py IN.npz OUT.npy

IN holds, of each surface k, ``points_k (N, 3)``, ``faces_k (M, 3)``, and numbers of points: ``root_k (1,)`` and
``tips_k (T,)``. OUT gets the points of all centrelines and the radii of their inscribed balls, ``(P, 4)``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

#: mm between points; passes and band of the smoothing that VMTK's tutorials do before (vmtksurfacesmoothing).
STEP_MM, PASSES, BAND = 0.5, 30, 0.1


def centrelines(points: Any, faces: Any, root: Any, tips: Any) -> Any:
    """``(P, 4)`` points and radii of the ways from the root to all tips."""
    import vtk
    from vmtk import vtkvmtk
    from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy

    surface, corners, cells = vtk.vtkPolyData(), vtk.vtkPoints(), vtk.vtkCellArray()
    corners.SetData(numpy_to_vtk(np.ascontiguousarray(points, np.float64), deep=1))
    stops = np.arange(0, 3 * len(faces) + 1, 3, dtype=np.int64)
    numbers = np.ascontiguousarray(faces, np.int64).ravel()
    cells.SetData(numpy_to_vtkIdTypeArray(stops, deep=1), numpy_to_vtkIdTypeArray(numbers, deep=1))
    surface.SetPoints(corners)
    surface.SetPolys(cells)
    smooth = vtk.vtkWindowedSincPolyDataFilter()
    smooth.SetInputData(surface)
    smooth.SetNumberOfIterations(PASSES)
    smooth.SetPassBand(BAND)
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.SplittingOff()
    normals.Update()
    found = vtkvmtk.vtkvmtkPolyDataCenterlines()
    found.SetInputData(normals.GetOutput())
    found.SetSourceSeedIds(_ids(root))
    found.SetTargetSeedIds(_ids(tips))
    found.SetRadiusArrayName("Radius")
    found.SetCostFunction("1/R")
    found.SetAppendEndPointsToCenterlines(0)
    found.SetCenterlineResampling(1)
    found.SetResamplingStepLength(STEP_MM)
    found.Update()
    lines = found.GetOutput()
    if not lines.GetNumberOfPoints():
        return np.zeros((0, 4))
    radius = vtk_to_numpy(lines.GetPointData().GetArray("Radius"))
    return np.column_stack([vtk_to_numpy(lines.GetPoints().GetData()), radius])


def _ids(numbers: Any) -> Any:
    import vtk

    found = vtk.vtkIdList()
    for number in numbers:
        found.InsertNextId(int(number))
    return found


if __name__ == "__main__":
    given = np.load(sys.argv[1])
    parts = [
        centrelines(*(given[f"{name}_{k}"] for name in ("points", "faces", "root", "tips")))
        for k in range(len(given.files) // 4)
    ]
    np.save(sys.argv[2], np.concatenate([np.zeros((0, 4)), *parts]))
