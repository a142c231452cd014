"""A page of a thousand cases in a browser: it opens at once, sorts, filters, obeys the keyboard, and shows any case."""

import math
from pathlib import Path
from typing import Any

import pytest

from near_monai.review.case_pages import Cell, Column, Details, Entry, drop_others, write_case, write_index

COUNT = 1000
#: Names that trip over URLs, HTML, JavaScript and file systems.
NASTY = (
    "p#1?/<b>it's 100% & ü",
    "a/b",
    '"a\\"',
    "%41",
    "</script>",
    "&amp;",
    " a ",
    "..a",
    "プ",
    "javascript:1",
    "A.js",
)
COLUMNS = (Column("Dice"), Column("Pieces", "descending"), Column("Why"))


def entry(number: int) -> Entry:
    name = NASTY[number] if number < len(NASTY) else f"case {number}"
    dice = math.nan if number == 500 else (number * 7919 % COUNT) / COUNT
    why = Cell(
        "torn: 2 gaps" if number % 10 == 3 else "rough wall; specks or islands of up to 3 mm3; 2 jumps of the calibre"
    )
    return Entry(name, (Cell(f"{dice:.3f}", dice, "0.1 to 0.9"), Cell(str(number % 7), number % 7), why), True)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("many <folder> 100%") / "report.html"
    entries = [entry(number) for number in range(COUNT)]
    for one in entries[:30]:
        write_case(file, Details(one.name, [f"trouble of {one.name}"], edits=[{**EDIT, "name": "9/W-00"}]))
    write_index(file, "Many", "<somewhere>", ["a & b"], COLUMNS, entries, "run")
    return file


EDIT = {"kind": "wall", "structure": "coronary", "volume": 1.0, "rejected": False, "place": [0.0, 0.0, 0.0]}


def names(page: Any) -> list[str]:
    """What the index shows, in order."""
    found: list[str] = page.locator("#cases tbody tr:visible a").all_text_contents()
    return found


def test_a_thousand_cases_open_at_once(many: Path, page: Any) -> None:
    assert many.stat().st_size < 600_000
    page.goto(many.as_uri())
    assert page.locator("#cases tbody tr").count() == COUNT
    taken = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
    assert taken < 3000, "0.2 s on an idle machine"


def test_columns_sort_the_worst_first(many: Path, page: Any) -> None:
    page.goto(many.as_uri())
    order = names(page)
    for title, first, then in (("Dice", "ascending", "descending"), ("Pieces", "descending", "ascending")):
        head = page.get_by_role("columnheader", name=title)
        for wanted in (first, then):
            page.get_by_role("button", name=title).click()
            assert head.get_attribute("aria-sort") == wanted
            column = [cell.title for cell in COLUMNS].index(title)
            values = {one.name: one.cells[column].value for one in map(entry, range(COUNT))}
            shown = [values[name] for name in names(page)]
            known = [value for value in shown if value is not None and not math.isnan(value)]
            assert known == sorted(known, reverse=wanted == "descending")
            assert title != "Dice" or (shown[-1] is not None and math.isnan(shown[-1])), "what is not known comes last"
    assert page.locator("[aria-sort]").count() == 1
    page.get_by_role("button", name="Rank").click()
    assert names(page) == order


def test_the_keyboard_does_it_all(many: Path, page: Any) -> None:
    page.goto(many.as_uri())
    page.keyboard.press("/")
    page.keyboard.type("TORN case 3")
    assert page.inner_text("#count") == f"{len(names(page))} of {COUNT} rows"
    assert names(page)[:2] == ["case 13", "case 23"] and len(names(page)) == COUNT / 10 - 1
    for key in ("ArrowDown", "j", "k", "ArrowDown", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    focus = "document.activeElement.textContent"
    assert page.evaluate(focus) == "case 13"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=trouble of case 13")
    assert page.evaluate(focus) == "case 13", "its title has the focus"
    page.keyboard.press("j")
    page.wait_for_selector("text=trouble of case 23")
    page.keyboard.press("k")
    page.wait_for_selector("text=trouble of case 13")
    page.keyboard.press("Escape")
    page.locator("#index").wait_for()
    assert page.evaluate(focus) == "case 13"
    page.go_back()
    page.locator("#title").wait_for()


def test_a_page_that_was_handed_on_alone_says_what_it_lacks(many: Path, page: Any) -> None:
    page.goto(f"{many.as_uri()}#case%20999")
    page.wait_for_selector("text=report/cases/case%20999.js is not there; it belongs beside this page")


@pytest.mark.parametrize("name", NASTY)
def test_any_name_opens_and_comes_back(many: Path, page: Any, name: str) -> None:
    page.goto(many.as_uri())
    page.locator("#cases tbody a").nth(NASTY.index(name)).click()
    page.wait_for_selector("#details .trouble")
    assert page.text_content("#details .trouble") == f"trouble of {name}"
    assert page.text_content("#title") == name
    page.check("[data-id]")
    assert "--reject" in page.input_value("#command")
    address = page.url
    page.go_back()
    page.locator("#index").wait_for()
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#details .trouble")
    assert page.text_content("#title") == name, "the address leads there"


def test_other_cases_go(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    for name in NASTY:
        write_case(file, Details(name))
    drop_others(file, set(NASTY[:2]))
    there = {path.relative_to(tmp_path / "report" / "cases").as_posix() for path in tmp_path.rglob("*.js")}
    assert there == {f"{name}.js" for name in NASTY[:2]}
