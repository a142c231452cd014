"""Where things are: grids, boxes, pieces, distances and centrelines, in voxels and in mm."""
