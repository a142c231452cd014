// The 3-D view of the case that is shown, made when it is asked for.
const COLOURS = { label: "#5b7fb5", before: "#5b7fb5", after: "#b9bec4", clear: "#8a9199", added: "#009e73", bridged: "#aa3377", removed: "#d55e00" };
const EYES = { front: [0, 1, 0], left: [-1, 0, 0], feet: [0, 0, -1] };
const UP = { front: [0, 0, 1], left: [0, 0, 1], feet: [0, 1, 0] };
const LINE = "#1c2024", CHOSEN = "#0b57d0";
let open = null; // {div, middle, unit, eye, up, centre, distance}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function columns(view, start, rows, size) {
  const read = size === 2 ? (at) => view.getInt16(at, true) : (at) => view.getInt32(at, true);
  const wrap = size === 2 ? (n) => (n << 16) >> 16 : (n) => n | 0;
  return [0, 1, 2].map((column) => {
    const out = new Int32Array(rows);
    let sum = 0;
    for (let row = 0; row < rows; row++) {
      sum = wrap(sum + read(start + (3 * row + column) * size));
      out[row] = sum;
    }
    return out;
  });
}

async function traces(scene) {
  const view = new DataView(await inflate(scene.data));
  let at = 0;
  const surfaces = scene.surfaces.map((surface) => {
    const points = columns(view, at, surface.vertices, 2);
    at += surface.vertices * 6;
    const [i, j, k] = columns(view, at, surface.faces, 4);
    at += surface.faces * 12;
    const [x, y, z] = points.map((p, axis) => Float32Array.from(p, (n) => n * scene.unit + scene.origin[axis]));
    const kind = surface.name.split(" ")[0];
    return {
      type: "mesh3d", name: surface.name, showlegend: true, kind, x, y, z, i, j, k, color: surface.colour ? `rgb(${surface.colour})` : COLOURS[surface.clear ? "clear" : kind],
      opacity: kind === "before" ? 0.55 : surface.clear ? 0.35 : 1, visible: kind !== "before", hoverinfo: "name+x+y+z",
      lighting: { ambient: 0.55, diffuse: 0.7, specular: 0.15 },
    };
  });
  const lines = (scene.branches ?? []).map((branch, number) => {
    const [x, y, z] = [0, 1, 2].map((axis) => branch.points.map((point) => point[axis]));
    return {
      type: "scatter3d", mode: "lines", kind: "after", branch: number, x, y, z, hoverinfo: "skip", line: { color: LINE, width: 4 },
      name: "centrelines", legendgroup: "centrelines", showlegend: number === 0,
    };
  });
  return [...surfaces, ...lines];
}

function extent(data) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const trace of data)
    [trace.x, trace.y, trace.z].forEach((values, axis) => {
      for (const value of values) {
        if (value < low[axis]) low[axis] = value;
        if (value > high[axis]) high[axis] = value;
      }
    });
  return [low, high];
}

function look() {
  const vector = ([x, y, z]) => ({ x, y, z });
  const eye = open.eye.map((e, axis) => open.centre[axis] + e * open.distance);
  const camera = { eye: vector(eye), center: vector(open.centre), up: vector(open.up) };
  return Plotly.relayout(open.div, { "scene.camera": camera });
}

function face(name) {
  Object.assign(open, { eye: EYES[name], up: UP[name] });
}

async function showScene() {
  if (open) return;
  const div = find("#in-3d"), { scene } = find("#details");
  if (!window.Plotly) await load(find("#cases").dataset.plotly);
  const data = await traces(scene);
  if (!div.isConnected) return; // somebody went on meanwhile
  div.hidden = false;
  find("#show-scene").nextElementSibling.hidden = false;
  const [low, high] = extent(data);
  const axis = (n, title) => ({ range: [low[n] - 1, high[n] + 1], title: { text: title } });
  // plotly puts the middle of the ranges at 0 and makes the geometric mean of the sides 1
  const sides = low.map((l, n) => high[n] - l + 2);
  open = {
    div, middle: low.map((l, n) => (l + high[n]) / 2), unit: Math.cbrt(sides[0] * sides[1] * sides[2]),
    centre: [0, 0, 0], distance: 1.7,
  };
  face("front");
  await Plotly.newPlot(div, data, {
    margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: 1,
    scene: { aspectmode: "data", xaxis: axis(0, "right mm"), yaxis: axis(1, "anterior mm"), zaxis: axis(2, "superior mm") },
  }, { responsive: true, displayModeBar: false });
  // later: plotly draws while it tells of a click, and would tell again
  div.on("plotly_click", ({ points: [{ x, y, z }] }) => setTimeout(() => pick([x, y, z])));
  await look();
}

// browsers keep only a few WebGL contexts
function closeScene() {
  if (open) Plotly.purge(open.div);
  open = null;
}

async function go(place) {
  await showScene();
  if (!open) return;
  open.centre = place.map((p, axis) => (p - open.middle[axis]) / open.unit);
  open.distance = 0.35;
  await look();
  open.div.scrollIntoView({ block: "center" });
}

function turn(sign) {
  const [x, y, z] = open.eye, angle = (sign * Math.PI) / 8;
  if (Math.hypot(x, y) < 0.1) face("front");
  else open.eye = [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle), z];
}

document.addEventListener("click", async (event) => {
  const { view, turn: sign, zoom, go: place, branch } = event.target.dataset;
  if (branch) await showBranch(Number(branch));
  if (event.target.id === "show-scene") await showScene();
  if (place) await go(JSON.parse(place));
  if (view) {
    face(view);
    Object.assign(open, { centre: [0, 0, 0], distance: 1.7 });
  }
  if (sign) turn(Number(sign));
  if (zoom) open.distance *= Number(zoom);
  if (view || sign || zoom) await look();
});

document.addEventListener("change", (event) => {
  if (!("show" in event.target.dataset)) return;
  const what = event.target.value;
  const visible = open.div.data.map(({ kind }) => what === "both" || (kind === "before") === (what === "before"));
  Plotly.restyle(open.div, { visible });
});
route(); // the address may name a case
