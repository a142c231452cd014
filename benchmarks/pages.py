"""A report of very many cases in headless Chromium: what it takes to write, to open, to sort, to filter, and to show.

``python -m benchmarks.pages RUN -o out/ --cases 1000`` repeats the cases of a run of ``near-monai refine`` under other
names. It needs ``pip install playwright`` and Chromium.
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

from near_monai.data.run_layout import RUN_FILE
from near_monai.review.html_report import write_report
from near_monai.review.reviewed_run import finished_cases, read_run

#: Cases that are opened, and seconds after which nothing is waited for any more.
OPENED, PATIENCE_S = 20, 60
#: Milliseconds until the next picture after a script.
TIMED = """async (script) => {
  const start = performance.now();
  new Function(script)();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""


def repeated(run: Path, output: Path, count: int) -> None:
    """A run of ``count`` cases in ``output`` that are copies (as links) of those of ``run``."""
    state = read_run(run)
    cases, rows = list(finished_cases(run, state)), []
    for number in range(count):
        case = cases[number % len(cases)]
        name = f"{case.row['name']} {number:04}"
        written = {}
        for file, mark in case.row["written"].items():
            path = file.replace(case.row["name"], name)
            (output / path).parent.mkdir(parents=True, exist_ok=True)
            (output / path).symlink_to((run / file).absolute())
            written[path] = mark
        rows.append(case.row | {"name": name, "written": written})
    (output / RUN_FILE).write_text(json.dumps(state | {"cases": rows}))


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
    options.output.mkdir(parents=True)
    repeated(options.run, options.output, options.cases)
    start = time.perf_counter()
    report = write_report(options.output)
    found: dict[str, Any] = {"seconds to write a case": (time.perf_counter() - start) / options.cases}
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
