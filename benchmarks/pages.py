"""A report of very many cases in headless Chromium: what it takes to write, to open, to sort, to filter, and to show.

``python -m benchmarks.pages RUN -o out/ --cases 1000`` draws the cases of a run of ``near-monai refine``, and repeats
them under other names. It needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from near_monai.anatomy import table_of
from near_monai.data.run_layout import REPORT_FILE
from near_monai.review.case_pages import Entry, case_file, write_index
from near_monai.review.html_report import COLUMNS, draw_case
from near_monai.review.reviewed_run import read_run

#: Cases that are opened, and seconds after which nothing is waited for any more.
OPENED, PATIENCE_S = 20, 60
#: Milliseconds until the next picture after a script.
TIMED = """async (script) => {
  const start = performance.now();
  new Function(script)();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


def repeated(run: Path, report: Path, count: int) -> float:
    """A report of ``count`` cases, copies of those of ``run``; returns the seconds that it takes to draw one."""
    run = shutil.copytree(run, report.parent / "run", ignore=shutil.ignore_patterns("report*"))
    state, anatomy, start = read_run(run), table_of(None), time.perf_counter()
    drawn = [draw_case(row, None, run, anatomy)[1] for row in state["cases"]]
    seconds = (time.perf_counter() - start) / len(drawn)
    entries = []
    for number in range(count):
        entry = drawn[number % len(drawn)]
        name = f"{entry.name} {number:04}"
        text = (run / case_file(report.name, entry.name)).read_text()
        target = report.parent / case_file(report.name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(entry.name, name))
        entries.append(Entry(name, entry.cells, entry.shown))
    write_index(report, "Refined labels", str(run), [], COLUMNS, entries, str(run))
    return seconds


def measured(page: Page, report: Path) -> dict[str, Any]:
    """Milliseconds of what a person does with the index and with single cases."""
    page.goto(report.absolute().as_uri())
    timing = "performance.timing.{} - performance.timing.navigationStart"
    found = {name: page.evaluate(timing.format(name)) for name in ("domInteractive", "loadEventEnd")}
    for title in ("Edits", "Case"):
        script = f"[...document.querySelectorAll('#cases th button')].find(b => b.textContent === '{title}').click()"
        found[f"sort by {title}"] = page.evaluate(TIMED, script)
    script = "const f = document.querySelector('#filter'); f.value = '99'; f.dispatchEvent(new Event('input'))"
    found["filter"] = page.evaluate(TIMED, script)
    page.fill("#filter", "")
    opened, in_3d = [], []
    for number in range(OPENED):
        start = time.perf_counter()
        page.locator("#cases tbody a").nth(number).click()
        page.wait_for_selector("#details img", timeout=1000 * PATIENCE_S)
        opened.append(1000 * (time.perf_counter() - start))
        if number < 3:
            start = time.perf_counter()
            page.click("#show-scene")
            page.wait_for_function("open !== null && open.div.data && open.div.querySelector('canvas')")
            in_3d.append(1000 * (time.perf_counter() - start))
        page.keyboard.press("Escape")
    return found | {"open a case": statistics.median(opened), "show it in 3-D": in_3d}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=1000)
    options = parser.parse_args()
    report = options.output / REPORT_FILE
    found: dict[str, Any] = {"seconds to draw a case": repeated(options.run, report, options.cases)}
    cases = [path.stat().st_size for path in (options.output / "report" / "cases").rglob("*.js")]
    found |= {"index kB": report.stat().st_size / 1000, "case kB": statistics.mean(cases) / 1000}
    found["all MB"] = sum(path.stat().st_size for path in (options.output / "report").rglob("*.js")) / 1e6
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        found |= measured(browser.new_page(viewport={"width": 1280, "height": 1000}, offline=True), report)
        browser.close()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
