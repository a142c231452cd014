"""What goes to others: packed bundles, data sets with refined labels, surface meshes."""
