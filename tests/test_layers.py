"""Imports run one way: a module may import only what stands above it. The order is the architecture."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import near_monai

PACKAGE = Path(__file__).resolve().parents[1] / "near_monai"

# One layer per line, lowest first. Modules of one line may import each other only from right to left.
ROWS = (
    "version errors outcomes shards pool coords boxes voxels places resources",
    "units threads frames components distance space windows cleaning evidence",
    "anatomy description phantoms vessels coronary solids heart",
    "corruption_surface corruption_parts corruption_tips corruption",
    "storage tensors unpacked stored arrays segments textheaders nrrd metaimage niftiheaders nifti io given",
    "layout walk cases colours contents results records exchange",
    "transforms",
    "sampling",
    "compact datasets shapes sources heart_sources",
    "layers field encoder table network blueprints weights configuration",
    "losses optimiser progress tolerance",
    "inference codes",
    "skeleton reconnection bridges repair",
    "findings familiarity subject",
    "fusion",
    "changes merging rules compose",
    "refinement whole figures in_memory files batch redrawing fuse postprocessing",
    "surfaces",
    "edits decisions review views scene report",
    "metrics comparison",
    "evaluation",
    "prepare",
    "curves handlers runs checkpoints volume training card pack listing",
    "cli",
    "__main__",
    "__init__",  # the public names; they load on first use, so nothing below may import the package itself
)
LAYERS = " ".join(ROWS).split()


def imported(path: Path) -> Iterator[str]:
    """Names of the near_monai modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["near_monai" if node.level else "", node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "near_monai" else [base]
        else:
            continue
        for name in names:
            package, _, module = name.partition(".")
            if package == "near_monai":
                yield module.split(".")[0] or "__init__"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("**/*.py")), ids=lambda path: path.stem)
def test_imports_run_one_way(path: Path) -> None:
    assert path.parent == PACKAGE, "the package is flat: give sub-packages a place in LAYERS first"
    assert path.stem in LAYERS, f"{path.name} has no place in LAYERS"
    for module in imported(path):
        assert module in LAYERS, f"{path.name} imports near_monai.{module}, which has no place in LAYERS"
        assert LAYERS.index(module) < LAYERS.index(path.stem), f"{path.name} imports near_monai.{module} from above"


def test_no_module_is_listed_twice() -> None:
    assert len(LAYERS) == len(set(LAYERS))


def test_every_way_of_importing_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    lines = (
        "import near_monai",
        "import near_monai.io as files",
        "from near_monai import coords",
        "from near_monai.errors import NearError",
        "from . import field",
        "from .table import CodeTable",
        "import numpy",
        "def f():",
        "    from near_monai.cli import main",
    )
    path.write_text("\n".join(lines))
    assert sorted(imported(path)) == ["__init__", "cli", "coords", "errors", "field", "io", "table"]


def test_public_names_load() -> None:
    for name in near_monai.__all__:
        assert getattr(near_monai, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        near_monai.nothing  # noqa: B018


def test_no_public_name_is_a_module() -> None:
    """To import ``near_monai.x`` sets ``near_monai.x`` to the module, whatever had that name before."""
    assert not set(near_monai.__all__) & {path.stem for path in PACKAGE.glob("*.py")}
