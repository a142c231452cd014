"""MONAI transforms from a label file to what F sees, and from F's probability to a file."""
