"""From the masks of all structures to one map without overlaps, slits and broken rules."""
