"""Realistic errors of label maps: of the whole surface, of single places, of the tips."""
