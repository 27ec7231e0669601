/* The curves of a figure, panel by panel, drawn by plotly.js once the reader asks for them. */
"use strict";

globalThis.curveExplorer ??= { figures: {} };

(() => {
  if (curveExplorer.receive) return; // this page has a second figure, and runs this file again
  curveExplorer.receive = (figure, panels) => { curveExplorer.figures[figure] = panels; };

  const fetched = {};
  /** Run a script beside the page; a script and not data, so that it works from a file, too. */
  function script(address) {
    fetched[address] ??= new Promise((resolve, reject) => {
      const made = document.createElement("script");
      made.src = address;
      made.onload = resolve;
      made.onerror = () => {
        delete fetched[address]; // the next click asks again
        reject(new Error(`${address}: could not be read; try again`));
      };
      document.head.append(made);
    });
    return fetched[address];
  }

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const dark = () => document.documentElement.dataset.theme === "dark";

  class Explorer {
    constructor(root) {
      this.root = root;
      this.panels = curveExplorer.figures[root.dataset.figure];
      this.build();
      this.draw();
    }

    build() {
      const { root } = this;
      root.replaceChildren();
      const controls = document.createElement("div");
      controls.className = "controls";
      this.panel = this.control(controls, "Panel", "select");
      this.panels.forEach((panel, n) => this.panel.append(new Option(panel.name, n)));
      this.log = this.control(controls, "Logarithmic samples", "input");
      this.log.type = "checkbox";
      this.log.checked = this.panels[0].log;
      this.paper = this.control(controls, "The paper's curves", "input");
      this.paper.type = "checkbox";
      this.paper.checked = true;
      this.plot = document.createElement("div");
      this.plot.className = "plot";
      this.plot.setAttribute("role", "img");
      root.append(controls, this.plot);
      for (const control of [this.panel, this.log, this.paper]) {
        control.addEventListener("change", () => this.draw());
      }
      // Plotly itself looks at the window only, and when that changes the page is still moving.
      new ResizeObserver(() => this.drawn?.then(() => Plotly.Plots.resize(this.plot))).observe(this.plot);
      new MutationObserver(() => this.draw()).observe(document.documentElement,
        { attributeFilter: ["data-theme"] });
    }

    control(parent, name, tag) {
      const label = document.createElement("label");
      const made = document.createElement(tag);
      const text = document.createElement("span");
      text.textContent = name;
      label.append(...(tag === "select" ? [text, made] : [made, text]));
      parent.append(label);
      return made;
    }

    traces() {
      const panel = this.panels[this.panel.value];
      const faint = dark() ? { width: 1.5, opacity: 0.9 } : { width: 1, opacity: 0.6 };
      const named = new Set();
      return panel.curves
        .filter((curve) => this.paper.checked || !curve.paper)
        .map((curve) => ({
          x: curve.x,
          y: curve.y,
          name: curve.label,
          legendgroup: curve.label, // runs that differ by their seed only
          showlegend: named.size < named.add(curve.label).size,
          type: "scatter",
          mode: "lines",
          line: { color: curve.color, dash: curve.dash, width: curve.paper ? faint.width : 2.5 },
          opacity: curve.paper ? faint.opacity : 1,
          hovertemplate: `%{y:.2f} nats after %{x:,} samples<br>${curve.told}<extra>${curve.label}</extra>`,
        }));
    }

    /** The part that moves, and where every curve ends: where training starts is far below. */
    range(traces) {
      const tops = traces.map((trace) => Math.max(...trace.y));
      const late = traces.flatMap((trace) => trace.y.filter((_, i) => trace.x[i] >= 1e5));
      const [low, high] = [Math.min(...late), Math.max(...tops)];
      const ends = traces.map((trace) => trace.y[trace.y.length - 1]);
      const floor = Math.max(low, Math.min(high - (high > 0 ? 900 : 70), ...ends));
      return [floor - (high - floor) * 0.05, high + (high - floor) * 0.05];
    }

    draw() {
      const traces = this.traces();
      const log = this.log.checked;
      const narrow = this.root.clientWidth < 500;
      const [text, grid] = [color("--pst-color-text-base"), color("--pst-color-border")];
      const end = Math.max(...traces.flatMap((trace) => trace.x[trace.x.length - 1]));
      const axis = { gridcolor: grid, zeroline: false, linecolor: grid, tickcolor: grid };
      const layout = {
        height: narrow ? 640 : 480,
        margin: { l: 60, r: 10, t: 36, b: 50 },
        hovermode: "closest",
        hoverdistance: 60,
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: text, family: "inherit" },
        hoverlabel: { align: "left" },
        legend: { traceorder: "normal", tracegroupgap: 0,
                  ...(narrow && { y: -0.2, yanchor: "top", x: 0, maxheight: 320 }) },
        xaxis: { ...axis, title: { text: "training samples evaluated" }, type: log ? "log" : "linear",
                 range: log ? [5, Math.log10(end)] : [0, end], exponentformat: "power" },
        yaxis: { ...axis, title: { text: "nats per datapoint" }, range: this.range(traces) },
      };
      const panel = this.panels[this.panel.value].name;
      this.plot.setAttribute("aria-label", `Curves of the panel ${panel}: nats against training samples. ` +
        "The tables of this page have their values.");
      this.drawn = Plotly.react(this.plot, traces, layout,
        { displaylogo: false, showSendToCloud: false, plotlyServerURL: "", // nothing leaves this page
          modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"] })
        .then(() => { this.root.dataset.ready = panel; });
    }
  }

  document.querySelectorAll(".curve-explorer").forEach((root) => {
    const complaint = document.createElement("p");
    complaint.setAttribute("role", "alert");
    root.querySelector("button").addEventListener("click", async () => {
      const at = root.dataset.root;
      complaint.remove();
      try {
        await Promise.all([`${root.dataset.figure}.js`, "plotly.min.js"].map((file) => script(at + file)));
      } catch (error) {
        complaint.textContent = error.message;
        root.append(complaint);
        return;
      }
      root.explorer = new Explorer(root);
      root.explorer.panel.focus();
    });
  });
})();
