"use strict";
// An index of cases; a case is a file beside the page that calls nearCase(), since pages from files may not fetch.
const find = (selector) => document.querySelector(selector);
const body = find("#cases tbody");
const rows = [...body.rows];
const heads = [...document.querySelectorAll("#cases th")];
const linkOf = (row) => row.querySelector("a");
const shownRows = () => [...body.rows].filter((row) => !row.hidden);
const arrived = new Map(); // by the name of a case, until it is shown
const marks = new Map(); // edits that a person marked or unmarked, and whether they are marked now
let last = null; // the link of the case that was looked at last

function nearCase(name, details) {
  arrived.set(name, details);
}

function load(source) {
  return new Promise((done, fail) => {
    const script = document.createElement("script");
    Object.assign(script, { src: source, onload: done, onerror: () => fail(new Error(source)) });
    document.head.append(script);
    script.remove();
  });
}

// --- the index

const collator = new Intl.Collator(undefined, { numeric: true });

function sortBy(head) {
  const column = heads.indexOf(head), other = { ascending: "descending", descending: "ascending" };
  const now = head.getAttribute("aria-sort"), first = head.dataset.first;
  const order = now === first ? other[first] : first;
  heads.forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const keys = new Map(rows.map((row) => {
    const cell = row.cells[column], { value } = cell.dataset;
    return [row, value === undefined ? cell.textContent : value === "" ? null : Number(value)];
  }));
  const compare = (a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last
    return sign * (typeof x === "number" ? x - y || 0 : collator.compare(x, y));
  };
  rows.sort((a, b) => compare(a, b) || a.cells[0].dataset.value - b.cells[0].dataset.value);
  body.append(...rows);
}

heads.forEach((head) => head.firstElementChild.addEventListener("click", () => sortBy(head)));

find("#filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const row of rows) {
    row.words ??= row.textContent.toLowerCase();
    row.hidden = !words.every((word) => row.words.includes(word));
  }
  find("#count").textContent = `${shownRows().length} of ${rows.length} rows`;
});

// --- a case; the address says which, so that the browser goes back

function caseOf(hash) {
  return hash ? rows.find((row) => linkOf(row).hash === hash) : undefined;
}

async function route() {
  const row = caseOf(location.hash);
  find("#index").hidden = Boolean(row);
  find("#case").hidden = !row;
  closeScene();
  find("#details").replaceChildren();
  if (!row) {
    last?.focus();
    last?.scrollIntoView({ block: "center" });
    return;
  }
  last = linkOf(row);
  const name = last.textContent, order = cases(row);
  find("#title").textContent = name;
  find("#where").textContent = `${order.indexOf(location.hash) + 1} of ${order.length}`;
  const same = rows.filter((other) => linkOf(other).hash === location.hash).map((other) => other.cloneNode(true));
  find("#row").replaceChildren(find("#cases thead").cloneNode(true), ...same);
  for (const cell of find("#row").querySelectorAll("button, a")) cell.replaceWith(cell.textContent);
  scrollTo(0, 0);
  find("#title").focus();
  if (row.dataset.src) await showCase(name, row.dataset.src);
}

async function showCase(name, source) {
  const [details, hash] = [find("#details"), location.hash];
  try {
    await load(source);
  } catch {
    const said = `${source} is not there; it belongs beside this page`;
    if (location.hash === hash) details.innerHTML = '<p class="trouble"></p>';
    if (location.hash === hash) details.firstChild.textContent = said;
    return;
  }
  const { html, scene } = arrived.get(name);
  arrived.delete(name);
  if (location.hash !== hash) return; // somebody went on meanwhile
  details.innerHTML = html;
  details.scene = scene;
  for (const box of details.querySelectorAll("[data-id]")) box.checked = marks.get(box.dataset.id) ?? box.checked;
}

// the cases in the order of the index, each once
function cases(current) {
  const seen = [...body.rows].filter((row) => !row.hidden || row === current);
  return [...new Set(seen.map((row) => linkOf(row).hash))];
}

function step(by) {
  const order = cases(caseOf(location.hash)), next = order[order.indexOf(location.hash) + by];
  if (next) location.replace(next); // so that the browser's way back is the index
}

function move(by) {
  const links = shownRows().map(linkOf), at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

addEventListener("hashchange", route);

addEventListener("keydown", (event) => {
  const inside = !find("#case").hidden, typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  const way = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape" && inside) location.hash = "";
  else if (event.key === "Escape" && event.target.id === "filter") move(1);
  else if (typing && !(event.key === "ArrowDown" && event.target.id === "filter")) return;
  else if (event.key === "/" && !inside) find("#filter").focus();
  else if (way && !inside) move(way);
  else if (way && event.key.length === 1) step(way); // arrows scroll a case
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const { step: by } = event.target.dataset;
  if (by) step(Number(by));
});

// --- edits that are taken back

// a word for a POSIX shell
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

document.addEventListener("change", (event) => {
  const box = event.target, { id } = box.dataset;
  if (!id) return;
  if (box.checked === box.defaultChecked) marks.delete(id);
  else marks.set(id, box.checked);
  const chosen = (state) => [...marks.keys()].filter((one) => marks.get(one) === state);
  const [back, again] = [chosen(true), chosen(false)];
  const words = (option, ids) => ids.map((one) => ` ${option} ${quoted(one)}`).join("");
  const run = quoted(find("footer").dataset.run);
  const said = [[back, "to take back"], [again, "to put in again"]].filter(([ids]) => ids.length);
  const count = said.map(([ids, what]) => `${ids.length} ${what}`).join(", ");
  find("footer").hidden = !count;
  find("#marked").textContent = count && `Marked: ${count}.`;
  find("#command").value = count && `near-monai apply ${run}${words("--reject", back)}${words("--accept", again)}`;
});

addEventListener("beforeunload", (event) => {
  if (marks.size) event.preventDefault(); // the marks are nowhere else
});

find("#copy")?.addEventListener("click", async () => {
  const field = find("#command");
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy"); // pages from files may not use the clipboard
  }
});
