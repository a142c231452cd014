"""Files that travel with the package."""

from __future__ import annotations

from pathlib import Path

from near_monai.errors import NearError


def bundle_dir() -> Path:
    """The MONAI Bundle (configs, shipped weights): inside the package in a wheel, beside it in a checkout.

    Raises:
        NearError: If it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "bundle", package.parent / "bundle"):
        if (folder / "configs").is_dir():
            return folder
    raise NearError(f"no bundle in {package} or beside it; install near_monai again")
