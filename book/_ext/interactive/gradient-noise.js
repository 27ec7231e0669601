/* Two estimates of one gradient: that of E[z_1^2 + ... + z_J^2] in mu_1 where q = N(mu, I). */
"use strict";

(() => {
  const { svg, html, slider, shown, rounded, path, uniform, animate } = drawing;
  const [LEFT, WIDTH, HEIGHT] = [50, 490, 240];
  const ESTIMATES = 1000;
  const KINDS = { naive: "q", reparameterized: "posterior" };

  /** The variances of one estimate, by the moments of the Gaussian. */
  function exact({ mean, dim, samples }) {
    const [square, others] = [mean ** 2, dim - 1];
    const first = square + others * (1 + square);
    const second = first ** 2 + others * (2 + 4 * square);
    return { naive: (second + 6 * first + 15 + 8 * square) / samples, reparameterized: 4 / samples };
  }

  function draw({ mean, dim, samples, seed }) {
    const next = uniform(seed);
    const normal = () => Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());
    const found = { naive: [], reparameterized: [] };
    for (let n = 0; n < ESTIMATES; n++) {
      let [naive, reparameterized] = [0, 0];
      for (let l = 0; l < samples; l++) {
        const noise = normal();
        let value = (mean + noise) ** 2;
        for (let j = 1; j < dim; j++) value += (mean + normal()) ** 2;
        naive += (value * noise) / samples;
        reparameterized += (2 * (mean + noise)) / samples;
      }
      found.naive.push(naive);
      found.reparameterized.push(reparameterized);
    }
    return found;
  }

  class Figure {
    constructor(root) {
      this.root = root;
      this.set = { mean: 1, dim: 1, samples: 1, seed: 0 };
      this.picture = svg(root, "svg", { viewBox: `0 0 ${LEFT + WIDTH} ${HEIGHT + 24}`, role: "img" });
      this.ticks = svg(this.picture, "g");
      svg(this.picture, "path", { d: `M${LEFT} ${HEIGHT}H${LEFT + WIDTH}`, class: "axis" });
      svg(this.picture, "text", { x: LEFT, y: HEIGHT + 20, class: "start" }, "1");
      svg(this.picture, "text", { x: LEFT + WIDTH, y: HEIGHT + 20, class: "end" }, `${ESTIMATES} estimates`);
      this.dots = {};
      this.means = {};
      for (const [kind, look] of Object.entries(KINDS)) {
        this.dots[kind] = svg(this.picture, "path", { class: `dots ${look}` });
      }
      for (const [kind, look] of Object.entries(KINDS)) {
        this.means[kind] = svg(this.picture, "path", { class: look });
      }
      svg(this.picture, "path", { d: `M${LEFT} ${HEIGHT / 2}H${LEFT + WIDTH}`, class: "truth" });
      const controls = html(root, "div", { class: "controls" });
      const sliders = [["mean", "mean μ", [0, 3, 1]], ["dim", "latent variables J", [1, 20, 1, 1]],
                       ["samples", "draws L of an estimate", [1, 20, 1, 1]]];
      for (const [name, text, range] of sliders) {
        slider(controls, text, range, (value) => this.change({ [name]: value }));
      }
      html(controls, "button", { type: "button" }, "Draw again")
        .addEventListener("click", () => this.again());
      const table = html(root, "table");
      const head = html(table, "tr");
      for (const text of ["estimator", "mean", "variance", "derived"]) html(head, "th", { scope: "col" }, text);
      this.cells = Object.fromEntries(Object.entries(KINDS).map(([kind, look]) => {
        const row = html(table, "tr");
        html(row, "th", { scope: "row", class: look }, kind);
        return [kind, ["mean", "variance", "derived"].map(() => html(row, "td"))];
      }));
      this.said = html(root, "p", { "aria-live": "polite" });
      this.change({});
    }

    change(some) {
      cancelAnimationFrame(this.root.frame);
      Object.assign(this.set, some);
      this.values = draw(this.set);
      this.scale();
      this.reveal(ESTIMATES);
    }

    again() {
      this.change({ seed: this.set.seed + 1 });
      let count = 0;
      animate(this.root, () => {
        count += 10;
        this.reveal(count);
        return count >= ESTIMATES;
      });
    }

    y(value) {
      return (HEIGHT / 2) * (1 - (value - this.truth) / this.reach);
    }

    x(n) { return LEFT + 4 + ((WIDTH - 8) * n) / (ESTIMATES - 1); }

    scale() {
      this.truth = 2 * this.set.mean;
      this.reach = 2.5 * Math.sqrt(exact(this.set).naive);
      const most = this.reach * 0.7; // so that zero is not the only one
      const power = 10 ** Math.floor(Math.log10(most));
      const step = [5, 2, 1].map((digit) => digit * power).find((size) => size <= most);
      this.ticks.replaceChildren();
      for (let n = Math.ceil((this.truth - this.reach) / step); n * step <= this.truth + this.reach; n++) {
        const y = this.y(n * step);
        if (y < 10 || y > HEIGHT - 6) continue;
        svg(this.ticks, "text", { x: LEFT - 8, y: y + 4, class: "end" }, rounded(n * step, Math.max(0, -Math.log10(power))));
      }
    }

    reveal(count) {
      const derived = exact(this.set);
      const told = { truth: this.truth };
      for (const kind of Object.keys(KINDS)) {
        const values = this.values[kind].slice(0, count);
        let sum = 0;
        const running = values.map((value, n) => [this.x(n), this.y((sum += value) / (n + 1))]);
        const dots = values.map((value, n) => (Math.abs(value - this.truth) > this.reach ? "" :
          `M${this.x(n).toFixed(1)} ${this.y(value).toFixed(1)}h0`));
        this.dots[kind].setAttribute("d", dots.join(""));
        this.means[kind].setAttribute("d", path(running));
        const mean = sum / values.length;
        const variance = values.reduce((all, value) => all + (value - mean) ** 2, 0) / (values.length - 1);
        const numbers = [mean, variance, derived[kind]];
        numbers.forEach((value, n) => { this.cells[kind][n].textContent = rounded(value); });
        Object.assign(told, { [`${kind}Mean`]: mean, [`${kind}Variance`]: variance, [`${kind}Derived`]: derived[kind] });
      }
      Object.assign(this.root.dataset, told, { count });
      if (count < ESTIMATES) return;
      const ratio = derived.naive / derived.reparameterized;
      const { mean, dim, samples } = this.set;
      const text = `μ = ${shown(mean)}, J = ${dim}, L = ${samples}: the true gradient is ${shown(this.truth)}, ` +
        `and the naive estimate varies ${rounded(ratio, 1)} times as much as the other.`;
      this.said.textContent = text;
      this.picture.setAttribute("aria-label", `Estimates and their running means, of both estimators. ${text}`);
    }
  }

  document.querySelectorAll(".interactive[data-figure='gradient-noise']").forEach((root) => new Figure(root));
})();
