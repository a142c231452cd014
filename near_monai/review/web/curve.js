// The radius along a branch of a vessel, and where it was added or bridged.
const SVG = { width: 760, height: 230, left: 46, right: 14, top: 40, bottom: 36 };

function arcOf(points) {
  let sum = 0;
  return points.map((point, n) => (sum += n && Math.hypot(...point.map((p, axis) => p - points[n - 1][axis]))));
}

// a step of 1, 2 or 5 times a power of ten that makes at most eight
function ticks(most) {
  const power = 10 ** Math.floor(Math.log10(most / 8)), step = [1, 2, 5, 10].find((n) => most <= 8 * n * power) * power;
  return Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, n) => Number((n * step).toPrecision(6)));
}

const node = (tag, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};

function curve(branch, spot) {
  const { width, height, left, right, top, bottom } = SVG, { radius } = branch, arc = arcOf(branch.points);
  const least = radius.indexOf(Math.min(...radius)), most = 1.1 * Math.max(...radius), length = arc.at(-1);
  const x = (mm) => left + (mm / length) * (width - left - right), y = (mm) => height - bottom - (mm / most) * (height - top - bottom);
  const said = `narrowest: radius ${radius[least].toFixed(2)} mm at ${arc[least].toFixed(1)} mm`;
  const changes = branch.changed.map(({ name, kind, from_to: [from, to] }) => `${name} ${kind} from ${from} to ${to} mm`);
  const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": [`Radius of ${branch.name}`, said, ...changes].join("; ") });
  branch.changed.forEach(({ name, kind, from_to: [from, to] }, n) => {
    const [start, end] = [x(from), Math.max(x(to), x(from) + 3)], high = 12 + 13 * (n % 2);
    svg.append(
      node("rect", { x: start, y: high + 3, width: end - start, height: height - bottom - high - 3, class: `stretch ${kind}` }),
      node("text", { x: Math.min(start, width - 130), y: high, class: kind }, `${name} ${kind}`),
    );
  });
  for (const mm of ticks(length)) svg.append(node("text", { x: x(mm), y: height - bottom + 15, "text-anchor": "middle" }, mm));
  for (const mm of ticks(most)) {
    svg.append(node("line", { x1: left, x2: width - right, y1: y(mm), y2: y(mm), class: "grid" }));
    svg.append(node("text", { x: left - 6, y: y(mm) + 4, "text-anchor": "end" }, mm));
  }
  svg.append(
    node("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, "mm along the branch, from the root on"),
    node("text", { x: 12, y: height / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${height / 2})` }, "radius mm"),
    node("polyline", { points: radius.map((r, n) => `${x(arc[n])},${y(r)}`).join(" "), class: "radius" }),
    node("circle", { cx: x(arc[least]), cy: y(radius[least]), r: 5, class: "least" }),
    node("text", { x: x(arc[least]) + (arc[least] > length / 2 ? -9 : 9), y: y(radius[least]) + 20, "text-anchor": arc[least] > length / 2 ? "end" : "start", class: "said" }, said),
  );
  if (spot !== undefined) svg.append(node("line", { x1: x(arc[spot]), x2: x(arc[spot]), y1: top, y2: height - bottom, class: "spot" }));
  return [svg, branch.points[least]];
}

function drawCurve(branch, spot) {
  const [svg, narrowest] = curve(branch, spot), title = document.createElement("p"), button = document.createElement("button");
  title.textContent = branch.name;
  Object.assign(button, { type: "button", textContent: "go to the narrowest place" });
  button.dataset.go = JSON.stringify(narrowest);
  find("#curve").replaceChildren(title, svg, button);
  find("#curve").hidden = false;
}

// the branch and the point of it that are nearest to a place in world mm
function pick(place) {
  const away = (point) => Math.hypot(...point.map((p, axis) => p - place[axis]));
  let best = { far: Infinity };
  find("#details").scene.branches?.forEach((branch, number) => branch.points.forEach((point, spot) => {
    const far = away(point);
    if (far < best.far) best = { far, number, spot };
  }));
  if (best.number !== undefined) choose(best.number, best.spot);
}

function choose(number, spot) {
  drawCurve(find("#details").scene.branches[number], spot);
  const lines = open.div.data.flatMap((trace, at) => (trace.type === "scatter3d" ? [at] : []));
  const chosen = lines.map((at) => open.div.data[at].branch === number);
  Plotly.restyle(open.div, { "line.color": chosen.map((is) => (is ? CHOSEN : LINE)), "line.width": chosen.map((is) => (is ? 9 : 4)) }, lines);
}

async function showBranch(number) {
  drawCurve(find("#details").scene.branches[number]);
  await showScene();
  if (!open) return; // somebody went on meanwhile
  choose(number);
  open.div.scrollIntoView({ block: "start" });
  find("#curve").focus({ preventScroll: true });
}
