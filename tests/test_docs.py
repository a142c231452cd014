"""The documents say what is there: commands (understood always, run when slow), options, links, wings, examples."""

import doctest
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from monai.bundle import ConfigParser
from numpy.typing import NDArray

import near_monai
from near_monai.cli import app
from near_monai.geometry.coordinates import Grid
from near_monai.networks.weight_files import shipped
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.review.reviewed_run import finished_cases, read_run
from near_monai.training.train_command import parse_overrides

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("bundle/docs/*.md"))]
#: Those of development are what CI runs.
DOCUMENTS = [page for page in PAGES if page != "bundle/docs/contributing.md"]
CONFIGS = ROOT / "bundle" / "configs"

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, typer.core.TyperGroup)
COMMANDS = GROUP.commands

#: What makes a training command short enough for a test.
SHORT = "--max_epochs 1 --windows_per_epoch 4 --num_workers 0"
COARSE = "--{0}#dataset#data#count 1 --{0}#dataset#data#spacing [2.0,2.0,2.0]"
#: Long by nature; tests/test_benchmark.py and tests/test_performance.py run them on small data.
BENCHMARKS = ("python -m benchmarks", "python benchmarks")


def commands(document: str) -> list[str]:
    """Commands of the bash blocks of a document, without comments; what installs and tests is run by CI."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    parts = [part.strip() for block in blocks for line in block.splitlines() for part in line.split(" && ")]
    unprepared = ("#", "python3 -m venv", ".venv/bin/pip", ".venv/bin/python")
    return [part.removeprefix(".venv/bin/") for part in parts if part and not part.startswith(unprepared)]


def without_comment(command: str) -> str:
    return re.sub(r"\s#.*", "", command)  # shlex also takes the # of space#spacing for one


ALL = [(document, command) for document in DOCUMENTS for command in commands(document)]


def test_there_are_commands() -> None:
    assert {command.split()[1] for _, command in ALL if command.startswith("near-monai")} == set(COMMANDS)
    assert len(ALL) > 60


@pytest.mark.parametrize(("document", "command"), ALL)
def test_command_is_understood(document: str, command: str) -> None:
    words = shlex.split(without_comment(command))
    if "near-monai" in words[0] or words[1:3] == ["-m", "near_monai"]:
        understand(words[1:] if "near-monai" in words[0] else words[3:])
    elif words[1:3] == ["-m", "torch.distributed.run"]:
        module = words.index("-m", 3)
        understand(words[module + 2 :]) if words[module + 1] == "near_monai" else understand_bundle(words[module:])
    elif words[1:3] == ["-m", "monai.bundle"]:
        understand_bundle(words[1:])
    elif command.startswith(BENCHMARKS):
        assert importlib.util.find_spec(words[2]) if words[1] == "-m" else (ROOT / words[1]).is_file()
    else:
        assert words[0] == "cp" or words[1:3] == ["-m", "zipfile"], "teach the test this kind of command"


def understand(words: list[str]) -> None:
    """Parse a command of near-monai as the command line does, without running it."""
    command = COMMANDS[words[0]]
    context = command.make_context(words[0], words[1:])
    if words[0] == "train":
        named = context.params["config"] or []
        overlays = [ROOT / n if (ROOT / n).is_file() else CONFIGS / n.with_suffix(".json") for n in named]
        parser = ConfigParser()
        parser.read_config([str(file) for file in (CONFIGS / "train.json", *overlays)])
        parse_overrides(context.args, parser)


def understand_bundle(words: list[str]) -> None:
    """Look up what ``python -m monai.bundle`` is told: it ignores what it does not know."""
    action, *rest = words[words.index("monai.bundle") + 1 :]
    options = dict(zip(rest[-2::-2], rest[::-2], strict=False))
    files = options["--config_file"].strip("[]").replace("'", "").split(",")
    parser = ConfigParser()
    parser.read_config([str(ROOT / file.replace("coronary_near/", "bundle/")) for file in files])  # packed, or not
    if action == "run":
        assert rest[0] in parser
        assert all(key.removeprefix("--") in parser for key in options if key != "--config_file")


def shorter(training: str) -> str:
    """Overrides with which a training command takes seconds."""
    if "recipe" in training:  # trains on whole cases of the user's, and holds none out
        return f"{SHORT} --points 2048"
    hearts = " --hearts 1" if re.search("organs|heart", training) and "--hearts 0" not in training else ""
    return " ".join([SHORT, "--phantoms 2", COARSE.format("validate"), COARSE.format("held_out") + hearts])


def make_msd(folder: Path, labels: Path, images: Path) -> None:
    """A data set in the layout of the Medical Segmentation Decathlon."""
    shutil.copytree(labels, folder / "labelsTr")
    shutil.copytree(images, folder / "imagesTr")
    names = sorted(path.name for path in labels.iterdir())
    entries = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    classes = {"0": "background", "9": "coronary"}
    description = {"name": "Coronary", "labels": classes, "numTraining": len(names), "training": entries, "test": []}
    (folder / "dataset.json").write_text(json.dumps(description))


@pytest.fixture
def desk(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    """A folder with everything that the documents take for granted."""
    desk = tmp_path
    for folder in ("bundle", "benchmarks"):
        shutil.copytree(ROOT / folder, desk / folder)
    vessel = noisy_vessel.copy()
    vessel[29:33, 39:43, 33:37] = True
    heart = vessel.astype(np.uint8) * 9
    heart[10:40, 4:10, 4:12], heart[10:40, 4:10, 20:30] = 2, 6
    maps = {
        "my_labels": vessel * 9, "truth": vessel * 9, "noisy": vessel * 9, "labels": vessel * 9, "ct": vessel * 300,
        "hearts": heart, "my_maps": heart, "my_livers": vessel * 1, "refined_6": heart, "refined_9": heart,
        "reader_1": vessel * 9, "reader_2": vessel * 9, "torn/torn": vessel * 1,
    }  # fmt: skip
    for folder, array in maps.items():
        (desk / folder).mkdir(parents=True)
        for name in ("case_1", "case_2"):
            image = nib.Nifti1Image(array.astype(np.int16), np.diag([*vessel_grid.spacing, 1.0]))
            nib.save(image, desk / folder / f"{name}.nii.gz")
    for folder in ("labelsTr", "truthTr"):
        shutil.copytree(desk / "truth", desk / "my_set" / folder)
    make_msd(desk / "Dataset001", desk / "labels", desk / "ct")
    (desk / "runs" / "ours").mkdir(parents=True)
    shutil.copy(shipped("coronary.safetensors"), desk / "runs" / "ours" / "best.safetensors")
    table = re.search(r"```yaml\n(.*?)```", (ROOT / "bundle/docs/how_to.md").read_text(), re.DOTALL)
    assert table
    (desk / "my_organ.yaml").write_text(table[1])
    return desk


def with_edits(command: str, desk: Path) -> str:
    """The names of edits in a document are examples: those of the same kind in the run that the document made."""

    def there(match: re.Match[str]) -> str:
        case, kind = match.groups()
        run = desk / command.split()[2]
        cases = {c.row["name"]: c for c in finished_cases(run, read_run(run))}
        return f"{case}/" + next(edit.name for edit in cases[case].edits if edit.name.startswith(kind))

    return re.sub(r"(\w+)/(9/[ABRW]-)[0-9a-f]{6}", there, command)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str) -> None:
    """A short first sentence, which the list of commands does not cut off, and one example at the end."""
    text = COMMANDS[name].help or ""
    summary, *_, example = text.split("\n\n")
    assert len(summary.splitlines()) == 1 and summary.endswith(".") and len(summary) <= 62
    assert example.startswith(f"Example: near-monai {name}") and len(example) <= 78
    understand(shlex.split(example)[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name: str) -> None:
    pages = ["bundle/docs/refine.md"] if name == "refine" else PAGES
    words = re.findall(r"--?\w[\w-]*", "".join((ROOT / page).read_text(encoding="utf-8") for page in pages))
    options = [parameter.opts for parameter in COMMANDS[name].params if parameter.param_type_name == "option"]
    assert [names for names in options if not set(names) & set(words)] == []


def anchor(heading: str) -> str:
    """The anchor that a Markdown heading has."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        name, _, place = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.is_file(), target
        if place:
            assert place in map(anchor, re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    package = Path(near_monai.__file__).parent
    for name in re.findall(r"`([\w/]+/\w+\.py|\w+/\w+\.yaml)`", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / name).is_file() or (package / name).is_file(), name


@pytest.mark.parametrize("page", PAGES[1:])
def test_a_page_says_whom_it_is_for_and_is_opened_from_the_readme(page: str) -> None:
    heading, first, *_ = (ROOT / page).read_text(encoding="utf-8").split("\n\n")
    assert heading.startswith("# ") and first.startswith("For ")
    assert f"]({page})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_the_wings_in_their_order() -> None:
    (listing,) = re.findall(r"```text\nnear_monai/(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    package = Path(near_monai.__file__).parent
    order = re.findall(r"``(\w+)``(?=[,:])", near_monai.__doc__ or "")
    assert re.findall(r"^  (\w+)", listing, re.MULTILINE) == [wing for wing in order if (package / wing).is_dir()]


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    """A folder with what examples take for granted: the label map of a vessel with a gap of 2 mm, and its code."""
    folder = tmp_path_factory.mktemp("examples")
    torn = noisy_vessel.copy()
    torn[20:24] = False
    image = nib.Nifti1Image(torn.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0]))
    nib.save(image, folder / "case_1.nii.gz")
    refine_files(folder / "case_1.nii.gz", folder / "refined", Options(save_codes=True), quiet=True, workers=1)
    return folder


@pytest.mark.parametrize("name", sorted(set(near_monai.__all__) - {"__version__"}))
def test_examples_of_public_names(name: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(examples)
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(verbose=False)
    found = [test for test in finder.find(getattr(near_monai, name), name, module=False) if test.examples]
    assert found, f"near_monai.{name} has no example"
    for test in found:
        said: list[str] = []
        runner.run(test, out=said.append)
        assert not said, "".join(said)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run(desk: Path, document: str) -> None:
    """In the order of the document, in one folder: what one command writes, the next ones find."""
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "0"}
    for command in commands(document):
        if command.startswith(BENCHMARKS):
            continue
        line = with_edits(without_comment(command), desk)
        if re.search("near.monai train|run training", line):
            line = f"{line} {shorter(line)}"
        done = subprocess.run(line, shell=True, cwd=desk, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-500:]}\n{done.stderr[-1500:]}"
