"""Imports run one way: a wing may import only what stands above it. The order is the architecture."""

import ast
import json
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import near_monai
from near_monai.names import HOMES, OF_CONFIGURATIONS, OF_PYTHON, OF_WEIGHTS
from near_monai.shipped_files import bundle_dir

PACKAGE = Path(near_monai.__file__).resolve().parent
#: Wings, and the modules that lie beside them, in the order in which ``near_monai``'s docstring names them.
ORDER = re.findall(r"``(\w+)``(?=[,:])", near_monai.__doc__ or "")
#: What stands last: the public names load on first use, so nothing else may import the package itself.
DOORS = ("__main__", "__init__")
FILES = sorted(PACKAGE.glob("**/*.py"))


def module_of(path: Path) -> str:
    """Name of a file's module below ``near_monai``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_of(path) for path in FILES}


def place(module: str) -> int:
    return [*ORDER, *DOORS].index(module.split(".")[0])


def imported(path: Path) -> Iterator[str]:
    """Names of the near_monai modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: a relative import; give the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package != "near_monai":
                continue
            found = [rest.rsplit(".", n)[0] for n in range(rest.count(".") + 1)]
            yield next((module for module in found if module in MODULES), "__init__")


def test_the_order_names_every_wing_once() -> None:
    wings = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    beside = {path.stem for path in PACKAGE.glob("*.py")} - set(DOORS)
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == wings | beside


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_one_way(path: Path) -> None:
    own = module_of(path)
    for module in imported(path):
        above = place(module) < place(own) or module.split(".")[0] == own.split(".")[0] != own
        assert above, f"near_monai.{own} imports near_monai.{module}, which stands below it"


def test_no_circle() -> None:
    TopologicalSorter({module_of(path): set(imported(path)) for path in FILES}).prepare()


def test_nothing_is_imported_by_a_name_in_a_string() -> None:
    hidden = re.compile(r"import_module|__import__|runpy|exec\(")
    assert [module_of(path) for path in FILES if hidden.search(path.read_text(encoding="utf-8"))] == ["__init__"]


def test_a_wing_can_be_looked_over() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 10
    for wing in (PACKAGE / name for name in ORDER if (PACKAGE / name).is_dir()):
        assert len(list(wing.glob("**/*.py"))) <= 16, f"{wing.name}: too many files for one wing"
        (purpose,) = ast.parse((wing / "__init__.py").read_text(encoding="utf-8")).body
        text = ast.get_docstring(ast.Module([purpose], [])) or ""
        assert text.endswith(".") and "\n" not in text, f"{wing.name}: its __init__ holds one line of purpose"


def test_every_way_of_importing_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    lines = (
        "import near_monai",
        "import near_monai.formats.label_maps as files",
        "from near_monai.geometry import coordinates",
        "from near_monai.errors import NearError",
        "from near_monai.networks.code_table import CodeTable",
        "import numpy",
        "def f():",
        "    from near_monai.cli import main",
    )
    path.write_text("\n".join(lines))
    found = ["__init__", "cli", "errors", "formats.label_maps", "geometry.coordinates", "networks.code_table"]
    assert sorted(imported(path)) == found


def test_public_names_load() -> None:
    for name in [*near_monai.__all__, *HOMES]:
        assert getattr(near_monai, name) is not None
    assert set(near_monai.__all__) == {*OF_WEIGHTS, *OF_PYTHON, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        near_monai.nothing  # noqa: B018


def test_a_public_name_stands_once_in_the_table() -> None:
    assert len(HOMES) == len(OF_WEIGHTS) + len(OF_PYTHON) + len(OF_CONFIGURATIONS)


def test_no_public_name_is_a_module() -> None:
    """To import ``near_monai.x`` sets ``near_monai.x`` to the module, whatever had that name before."""
    assert not set(HOMES) & set(ORDER)


def test_configurations_use_public_names() -> None:
    root = PACKAGE.parent
    files = [*bundle_dir().glob("**/*.json"), *root.glob("benchmarks/*.json")]
    assert files
    for path in files:
        text = json.dumps(json.loads(path.read_text(encoding="utf-8")))
        for name in re.findall(r"near_monai\.([\w.]+)", text):
            assert name in HOMES, f"{path.name} names near_monai.{name}; expected a name of near_monai.names"
