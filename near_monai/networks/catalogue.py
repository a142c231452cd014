"""What there is to choose from: structures of the anatomy table, and shipped weights."""

from __future__ import annotations

from pathlib import Path

from near_monai.anatomy import table_of
from near_monai.errors import some
from near_monai.formats.tensor_files import SUFFIX
from near_monai.formats.text_tables import aligned
from near_monai.networks.weight_files import DEFAULT, describe, shipped


def structures_and_weights(table: str | Path | None = None) -> str:
    """Two tables of text: the structures of ``table`` (the heart's if not given), and the shipped weights.

    Raises:
        NearError: see :func:`near_monai.anatomy.load`.
    """
    rows = [("label", "structure", "scale", "tubular", "weights")]
    for row in table_of(table).structures:
        rows.append((str(row.index), row.name, f"{row.scale:g}", "yes" if row.tubular else "", row.weights))
    files = [("--weights", "for")]
    for path in sorted(shipped(DEFAULT).parent.glob(f"*{SUFFIX}")):
        description = describe(path)
        files.append((path.name, some(description.names, 3) if description else "unknown"))
    return f"{aligned(rows)}\n\n{aligned(files)}"
