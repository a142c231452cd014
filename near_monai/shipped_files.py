"""Files that travel with the package."""

from __future__ import annotations

from pathlib import Path

from near_monai.errors import NearError


def package_dir() -> Path:
    """The folder of the package."""
    return Path(__file__).resolve().parent


def bundle_dir() -> Path:
    """The MONAI Bundle (configs, shipped weights): in the package (wheel), beside it (checkout), around it (zip).

    Raises:
        NearError: If it is in none of these places.
    """
    package = package_dir()
    for folder in (package / "bundle", package.parent / "bundle", package.parent):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise NearError(f"no bundle in {package}, beside or around it; install near_monai again")
