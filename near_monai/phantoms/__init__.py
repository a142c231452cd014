"""Generated hearts and coronary trees, whose truth is known at any resolution."""
