"""``python -m near_monai``."""

from near_monai.cli import main

main()
