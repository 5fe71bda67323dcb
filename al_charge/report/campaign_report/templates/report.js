"use strict";
// Draws the plots. Colours are variables of the style sheet, so that they follow light, dark and paper.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const CONFIG = { displayModeBar: false, responsive: true, plotlyServerURL: "", showLink: false, doubleClick: "reset" };

  const coloured = (value, style) => {
    if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    if (Array.isArray(value)) return value.map((one) => coloured(one, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one, style)]));
    return value;
  };
  const axis = (given) => ({
    gridcolor: "var(--grid)", linecolor: "var(--faint)", showline: true, zeroline: false, zerolinecolor: "var(--faint)",
    ticks: "outside", tickcolor: "var(--faint)", automargin: true, ...given,
  });
  const laidOut = (layout, width) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 13, color: "var(--text)" },
    hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--text)" } },
    margin: { l: 60, r: 12, t: 12, b: 50 },
    ...layout, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, ...layout.legend }, xaxis: axis({ ...layout.xaxis, showgrid: false }), yaxis: axis(layout.yaxis),
    ...(width ? { width } : {}),
  });

  const state = { round: null, axis: "x", band: true, predicted: true };
  const visible = (trace) =>
    (state.band || !String(trace.meta).startsWith("band")) && (state.predicted || trace.meta !== "predicted");
  const chosen = (name) => {
    const plot = data.plots[name];
    if (name === "hull") return { traces: plot.rounds[state.round].filter(visible), layout: plot.layout };
    if (name === "voltage") return plot[state.axis];
    return plot;
  };
  const draw = (name, width) => {
    const place = document.getElementById(`plot-${name}`);
    if (!place) return;
    const style = getComputedStyle(document.documentElement);
    const { traces, layout } = chosen(name);
    return Plotly.react(place, coloured(structuredClone(traces), style), coloured(laidOut(layout, width), style), CONFIG);
  };
  const drawAll = (width) => Promise.all(Object.keys(data.plots).map((name) => draw(name, width)));

  const slider = document.getElementById("round");
  if (slider) {
    const told = document.getElementById("round-told");
    const numbers = JSON.parse(slider.dataset.rounds);
    const lines = JSON.parse(slider.dataset.lines);
    const choose = () => {
      const place = Number(slider.value);
      state.round = numbers[place];
      told.textContent = lines[place];
      slider.setAttribute("aria-valuetext", lines[place]);
    };
    choose();
    slider.addEventListener("input", () => { choose(); draw("hull"); });
  }
  for (const box of document.querySelectorAll("[data-hull]")) {
    box.addEventListener("change", () => { state[box.dataset.hull] = box.checked; draw("hull"); });
  }
  for (const choice of document.querySelectorAll("input[name=axis]")) {
    choice.addEventListener("change", () => { state.axis = choice.value; draw("voltage"); });
  }
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => {
      const name = button.dataset.save;
      Plotly.downloadImage(document.getElementById(`plot-${name}`), { format: "svg", filename: `${document.body.dataset.campaign}-${name}`, width: 900, height: 540 });
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => {
      const text = document.getElementById(button.dataset.copy);
      getSelection().selectAllChildren(text);
      button.textContent = document.execCommand("copy") ? "copied" : "selected: copy it with the keyboard";
    });
  }

  window.drawStructures(data.structures, data.legend);
  drawAll().then(() => { document.body.dataset.drawn = Object.keys(data.plots).join(" "); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  addEventListener("beforeprint", () => { document.documentElement.dataset.print = ""; drawAll(660); });
  addEventListener("afterprint", () => { delete document.documentElement.dataset.print; drawAll(); });
})();
