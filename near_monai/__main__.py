"""``python -m near_monai``."""

from near_monai.cli import main

if __name__ == "__main__":
    main()
