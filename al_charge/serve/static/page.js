// Keeps an open page up to date: it asks for itself and takes over the parts that have changed.
"use strict";

const EVERY = 2000; // ms between two questions
const HIDDEN = 30000; // ms while nobody looks
const LONGEST = 15000; // ms between two questions while nothing answers

const address = location.href.split("#")[0];
const received = new Map(); // what the server sent last of each part
let tag = null;
let skew = 0; // ms by which the server's clock is ahead
let wait = EVERY;
let lastAnswer = Date.now();

function parts(page) {
  return [...page.querySelectorAll("[data-part]")];
}

// Times

function inWords(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} d`;
}

function tellTimes() {
  for (const one of document.querySelectorAll("time[data-time]")) {
    const told = inWords((Date.now() + skew - Date.parse(one.dateTime)) / 1000);
    one.title ||= one.textContent;
    const text = one.dataset.time === "ago" ? `${told} ago` : told;
    if (one.textContent !== text) one.textContent = text;
  }
}

// Updates

function tell(kind, text) {
  const place = document.getElementById("connection");
  if (place.textContent === text) return;
  place.className = kind;
  place.textContent = text;
}

function replace(old, fresh) {
  const inside = old.contains(document.activeElement) ? document.activeElement : null;
  const links = inside && inside.href ? `a[href="${CSS.escape(inside.getAttribute("href"))}"]` : null;
  const open = [...old.querySelectorAll("details[open]")].map((one) => one.id);
  const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  const view = old.querySelector("[data-zoom] svg")?.dataset.view;
  const focused = inside && [...old.querySelectorAll("[tabindex],button,summary")].indexOf(inside);
  old.innerHTML = fresh.innerHTML;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  old.querySelectorAll(".scroll").forEach((one, i) => (one.scrollLeft = scrolled[i] ?? 0));
  const svg = old.querySelector("[data-zoom] svg");
  if (view && svg) show(svg, view.split(" ").map(Number));
  if (links) old.querySelector(links)?.focus();
  else if (inside) old.querySelectorAll("[tabindex],button,summary")[focused]?.focus();
}

function update(text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const here = document.getElementById("main").dataset.page;
  const fresh = parts(page);
  if (page.getElementById("main")?.dataset.page !== here || fresh.length !== parts(document).length) {
    location.reload(); // what could not be shown now can be
    return;
  }
  for (const one of fresh) {
    const name = one.dataset.part;
    const old = document.querySelector(`[data-part="${name}"]`);
    if (received.get(name) !== one.innerHTML) replace(old, one);
    received.set(name, one.innerHTML);
  }
  const news = page.querySelector("[data-news]")?.textContent ?? "";
  const before = document.querySelector("[data-news]");
  if (before && before.textContent !== news) {
    before.textContent = news;
    document.getElementById("news").textContent = news;
  }
}

async function ask() {
  let trouble = "";
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const options = { headers, cache: "no-store", signal: AbortSignal.timeout(LONGEST) };
    const answer = await fetch(address, options);
    skew = Date.parse(answer.headers.get("Date")) - Date.now() || 0;
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      update(await answer.text());
    } else if (answer.status === 403) {
      trouble = "This page was started anew: open the address that al-charge serve has printed";
    } else if (answer.status === 404) {
      trouble = "This is no longer in the database";
    } else if (answer.status === 503) {
      trouble = "The database does not answer";
    } else if (answer.status !== 304) {
      trouble = "Something went wrong; the terminal of al-charge serve tells what";
    }
  } catch {
    trouble = "al-charge serve does not answer";
  }
  if (!trouble) lastAnswer = Date.now();
  document.body.classList.toggle("old", Boolean(trouble));
  const since = new Date(lastAnswer).toLocaleTimeString();
  tell(trouble ? "bad" : "good", trouble ? `${trouble}. Shown is ${since}; trying again.` : "Live");
  wait = trouble ? Math.min(LONGEST, 1.5 * wait) : EVERY;
  next();
}

let timer = null;
function next() {
  clearTimeout(timer);
  timer = setTimeout(ask, document.hidden ? HIDDEN : wait);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    clearTimeout(timer);
    ask();
  }
});

// The graph of a round

function show(svg, view) {
  svg.dataset.whole ||= svg.getAttribute("viewBox");
  svg.dataset.view = view.join(" ");
  svg.setAttribute("viewBox", svg.dataset.view);
}

function whole(svg) {
  svg.dataset.whole ||= svg.getAttribute("viewBox");
  return svg.dataset.whole.split(" ").map(Number);
}

function current(svg) {
  return svg.dataset.view ? svg.dataset.view.split(" ").map(Number) : whole(svg);
}

function zoom(svg, factor, at) {
  const [x, y, width, height] = current(svg);
  const [, , most] = whole(svg);
  const scale = Math.min(Math.max(factor, most / 20 / width), (1.5 * most) / width);
  const [px, py] = at ?? [x + width / 2, y + height / 2];
  show(svg, [px - (px - x) * scale, py - (py - y) * scale, width * scale, height * scale]);
}

function move(svg, dx, dy) {
  const [x, y, width, height] = current(svg);
  show(svg, [x + dx * width, y + dy * height, width, height]);
}

function point(svg, event) {
  const there = new DOMPoint(event.clientX, event.clientY);
  const here = there.matrixTransform(svg.getScreenCTM().inverse());
  return [here.x, here.y];
}

const graphOf = (event) => event.target.closest?.("[data-zoom]")?.querySelector("svg");
const KEYS = {
  "+": (svg) => zoom(svg, 0.8),
  "=": (svg) => zoom(svg, 0.8),
  "-": (svg) => zoom(svg, 1.25),
  0: (svg) => show(svg, whole(svg)),
  ArrowLeft: (svg) => move(svg, -0.1, 0),
  ArrowRight: (svg) => move(svg, 0.1, 0),
  ArrowUp: (svg) => move(svg, 0, -0.1),
  ArrowDown: (svg) => move(svg, 0, 0.1),
};

document.addEventListener("keydown", (event) => {
  if (!event.target.matches?.("[data-zoom]") || event.ctrlKey || event.metaKey) return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act(graphOf(event));
});

let dragged = null; // the graph, where it was taken hold of, and whether it moved
document.addEventListener("pointerdown", (event) => {
  const svg = event.target.closest?.("[data-zoom] svg");
  if (svg && event.pointerType !== "touch") dragged = { svg, at: point(svg, event), moved: false };
});
document.addEventListener("pointermove", (event) => {
  if (!dragged) return;
  const [x, y] = point(dragged.svg, event);
  const [left, top, width, height] = current(dragged.svg);
  if (Math.hypot(x - dragged.at[0], y - dragged.at[1]) > width / 200) dragged.moved = true;
  show(dragged.svg, [left + dragged.at[0] - x, top + dragged.at[1] - y, width, height]);
});
document.addEventListener("pointerup", () => setTimeout(() => (dragged = null)));

document.addEventListener(
  "wheel",
  (event) => {
    const svg = event.target.closest?.("[data-zoom] svg");
    if (!svg || !(event.ctrlKey || event.metaKey)) return; // the page scrolls
    event.preventDefault();
    zoom(svg, Math.exp(event.deltaY / 400), point(svg, event));
  },
  { passive: false },
);

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-do]");
  const node = event.target.closest?.("[data-href]");
  if (button) ({ in: KEYS["+"], out: KEYS["-"], all: KEYS[0] })[button.dataset.do](graphOf(event));
  else if (node && !dragged?.moved) location.href = node.dataset.href;
});

for (const one of parts(document)) received.set(one.dataset.part, one.innerHTML);
tellTimes();
setInterval(tellTimes, 1000);
ask();
