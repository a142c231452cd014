"""From a label to z, and from z to the probability of every voxel."""
