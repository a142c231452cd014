"""From a probability to the mask of one structure: what is joined, what is dropped, what to look at."""
