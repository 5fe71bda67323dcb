"use strict";
// Draws structures as SVG: polyhedra and atoms, far ones first. All of them turn together, so that
// the orders of different compositions can be compared.
window.drawStructures = (structures, legend) => {
  const SVG = "http://www.w3.org/2000/svg";
  const stages = [...document.querySelectorAll(".stage")];
  const shown = { polyhedra: true, anions: false };
  const kinds = new Map(legend.map((one, place) => [one.kind, { ...one, colour: `var(--s${place % 6})` }]));
  const OTHERS = {
    ion: { shape: "circle", colour: "var(--ion)", size: 0.62 },
    cation: { shape: "circle", colour: "var(--cation)", size: 0.3 },
    anion: { shape: "circle", colour: "var(--anion)", size: 0.22 },
  };
  let turn, zoom;

  const multiply = (a, b) => a.map((row) => [0, 1, 2].map((j) => row.reduce((sum, v, k) => sum + v * b[k][j], 0)));
  const about = (axis, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    return axis === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]] : [[c, 0, s], [0, 1, 0], [-s, 0, c]];
  };
  const apply = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
  const unit = (v) => v.map((value) => value / Math.hypot(...v));
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

  // The view along a cell vector: it points at the reader, the next one to the right.
  const along = (number) => {
    if (!structures.length) return [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    const cell = structures[0].cell;
    const towards = unit(cell[number]);
    const right = cell[(number + 1) % 3];
    const off = right.reduce((sum, v, i) => sum + v * towards[i], 0);
    const across = unit(right.map((v, i) => v - off * towards[i]));
    return [across, cross(towards, across), towards];
  };
  const reset = () => {
    turn = multiply(about("x", 0.28), multiply(about("y", -0.35), along(2)));
    zoom = 1;
  };

  const element = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const SIDES = { square: [4, Math.PI / 4], triangle: [3, -Math.PI / 2], diamond: [4, 0], hexagon: [6, 0] };
  const glyph = (shape, x, y, size, colour) => {
    if (shape === "circle") return element("circle", { cx: x, cy: y, r: size, fill: colour, class: "glyph" });
    const [sides, start] = SIDES[shape] || [10, -Math.PI / 2];
    const points = Array.from({ length: sides }, (_, n) => {
      const reach = size * (shape === "triangle" ? 1.45 : 1.2) * (shape === "star" && n % 2 ? 0.55 : 1);
      const angle = start + (2 * Math.PI * n) / sides;
      return `${(x + reach * Math.cos(angle)).toFixed(3)},${(y + reach * Math.sin(angle)).toFixed(3)}`;
    });
    return element("polygon", { points: points.join(" "), fill: colour, class: "glyph" });
  };
  const mark = (text, x, y, size) => {
    const made = element("text", { x, y, "font-size": size, class: "mark" });
    made.textContent = text;
    return made;
  };
  // What is written on a site: its charge, which no colour is needed for.
  const short = (name) => name.includes("uncertain") ? "?" : (name.match(/\d*[+-]/) || [name])[0];

  const draw = (stage) => {
    const structure = structures[Number(stage.dataset.structure)];
    const reach = Math.max(...[-1, 1].flatMap((p) => [-1, 1].flatMap((q) => [-1, 1].map((r) =>
      Math.hypot(...[0, 1, 2].map((i) => (p * structure.cell[0][i] + q * structure.cell[1][i] + r * structure.cell[2][i]) / 2)))))) * 0.95 + 0.8;
    const half = reach / zoom;
    const items = [];
    const at = (v) => apply(turn, v);
    if (shown.polyhedra) {
      for (const face of structure.faces) {
        const corners = face.at.map(at);
        const colour = (kinds.get(face.kind) || OTHERS[face.kind]).colour;
        const points = corners.map((p) => `${p[0].toFixed(3)},${(-p[1]).toFixed(3)}`).join(" ");
        const depth = corners.reduce((sum, p) => sum + p[2], 0) / corners.length;
        items.push([depth, [element("polygon", { points, fill: colour, stroke: colour, class: "face", "fill-opacity": kinds.has(face.kind) ? 0.34 : 0.18 })]]);
      }
    }
    for (const atom of structure.atoms) {
      if (atom.kind === "anion" && shown.polyhedra && !shown.anions) continue;
      const [x, y, z] = at(atom.at);
      const how = kinds.get(atom.kind) || OTHERS[atom.kind];
      const size = how.size || 0.72;
      const drawn = [glyph(how.shape, x, -y, size, how.colour)];
      if (kinds.has(atom.kind)) drawn.push(mark(short(atom.name), x, -y, 0.8));
      items.push([z + 0.4, drawn]);
    }
    const corners = [];
    for (const p of [0, 1]) for (const q of [0, 1]) for (const r of [0, 1]) corners.push([p, q, r]);
    const place = (c) => at([0, 1, 2].map((i) => structure.cell.reduce((sum, v, k) => sum + (c[k] - 0.5) * v[i], 0)));
    for (const c of corners) {
      for (const k of [0, 1, 2]) {
        if (c[k]) continue;
        const a = place(c), b = place(c.map((v, i) => (i === k ? 1 : v)));
        items.push([(a[2] + b[2]) / 2 - 1, [element("line", { x1: a[0], y1: -a[1], x2: b[0], y2: -b[1], class: "edge" })]]);
      }
    }
    items.sort((a, b) => a[0] - b[0]);
    const svg = stage.querySelector("svg");
    svg.setAttribute("viewBox", `${-half} ${-half} ${2 * half} ${2 * half}`);
    svg.replaceChildren(...items.flatMap((item) => item[1]));
    ["a", "b", "c"].forEach((name, k) => {
      const [x, y] = place([0, 1, 2].map((i) => (i === k ? 1.07 : 0)));
      const text = element("text", { x, y: -y, "font-size": 0.9, class: "axis" });
      text.textContent = name;
      svg.append(text);
    });
  };

  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; stages.forEach(draw); });
  };
  const rotate = (dx, dy) => {
    turn = multiply(about("y", dx), multiply(about("x", dy), turn));
    redraw();
  };
  const STEP = Math.PI / 12;
  const ACTIONS = {
    left: () => rotate(-STEP, 0), right: () => rotate(STEP, 0), up: () => rotate(0, -STEP), down: () => rotate(0, STEP),
    in: () => { zoom = Math.min(4, zoom * 1.2); redraw(); }, out: () => { zoom = Math.max(0.5, zoom / 1.2); redraw(); },
    a: () => { turn = along(0); redraw(); }, b: () => { turn = along(1); redraw(); }, c: () => { turn = along(2); redraw(); },
    reset: () => { reset(); redraw(); },
  };
  const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "in", "-": "out", a: "a", b: "b", c: "c", 0: "reset" };
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", ACTIONS[button.dataset.view]);
  for (const box of document.querySelectorAll("[data-shown]")) {
    box.addEventListener("change", () => { shown[box.dataset.shown] = box.checked; redraw(); });
  }
  for (const stage of stages) {
    stage.append(element("svg", { "aria-hidden": "true" }));
    stage.addEventListener("keydown", (event) => {
      const action = ACTIONS[KEYS[event.key]];
      if (action && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); action(); }
    });
    let last = null;
    stage.addEventListener("pointerdown", (event) => { last = [event.clientX, event.clientY]; stage.setPointerCapture(event.pointerId); });
    stage.addEventListener("pointermove", (event) => {
      if (!last) return;
      rotate((event.clientX - last[0]) / 120, (event.clientY - last[1]) / 120);
      last = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { last = null; });
  }
  for (const place of document.querySelectorAll("[data-glyph]")) {
    const { shape, colour, name } = kinds.get(place.dataset.glyph) || { ...OTHERS[place.dataset.glyph], name: "" };
    const svg = element("svg", { viewBox: "-1 -1 2 2", "aria-hidden": "true" });
    svg.append(glyph(shape, 0, 0, 0.72, colour));
    if (name) svg.append(mark(short(name), 0, 0, 0.8));
    place.prepend(svg);
  }
  reset();
  stages.forEach(draw);
};
