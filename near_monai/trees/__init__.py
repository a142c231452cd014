"""From a mask to rooted trees: centrelines in mm, radii along them, branches, sides."""
