/* Draws through the inverse of the distribution function: curve, density and slope all follow from
   the map g alone, as (g(u), u), (g(u), 1 / g'(u)) and the derivative of g in a parameter. */
"use strict";

(() => {
  const { svg, html, slider, shown, path, uniform, animate } = drawing;
  const [LEFT, WIDTH, TOP, FLOOR] = [34, 500, 170, 320]; // the curve is above TOP, the draws below
  const [BINS, DRAWS, LENGTH] = [40, 200, 0.5];

  /** The k whose terms are summed is a whole number; Newton's method, kept between two bounds. */
  function erlang(u, k) {
    let [low, high, z] = [0, 200, k];
    for (let n = 0; n < 100; n++) {
      let [term, sum] = [1, 1];
      for (let i = 1; i < k; i++) sum += term *= z / i;
      const excess = 1 - Math.exp(-z) * sum - u;
      if (excess > 0) high = z; else low = z;
      const next = z - excess / (Math.exp(-z) * term);
      const kept = next > low && next < high ? next : (low + high) / 2;
      if (Math.abs(kept - z) <= 1e-15 * z) break;
      z = kept;
    }
    return z;
  }

  const exponential = (u) => -Math.log1p(-u);
  const [LOC, SCALE, RATE] = [["loc", -1, 1, 0], ["scale", 0.5, 2, 1], ["rate", 0.5, 2, 1]];
  const LAWS = {
    Exponential: { of: [RATE], window: [0, 5], g: (u, b) => exponential(u) / b },
    Cauchy: { of: [LOC, SCALE], window: [-7, 7], g: (u, a, c) => a + c * Math.tan(Math.PI * (u - 0.5)) },
    Logistic: { of: [LOC, SCALE], window: [-7, 7], g: (u, m, s) => m + s * Math.log(u / (1 - u)) },
    Rayleigh: { of: [SCALE], window: [0, 6], g: (u, s) => s * Math.sqrt(2 * exponential(u)) },
    Pareto: { of: [SCALE, ["alpha", 1, 4, 2]], window: [0, 7], g: (u, s, a) => s * Math.exp(exponential(u) / a) },
    Weibull: { of: [SCALE, ["concentration", 0.8, 4, 2]], window: [0, 5], g: (u, s, k) => s * exponential(u) ** (1 / k) },
    Reciprocal: { of: [["low", 0.3, 1.5, 0.5], ["high", 2, 6, 4]], window: [0, 6.5], g: (u, a, b) => a * (b / a) ** u },
    Gompertz: { of: [["concentration", 0.3, 2, 0.5], RATE], window: [0, 5], g: (u, e, b) => Math.log1p(exponential(u) / e) / b },
    Gumbel: { of: [LOC, SCALE], window: [-4, 8], g: (u, m, s) => m - s * Math.log(-Math.log(u)) },
    Erlang: { of: [["concentration", 1, 6, 3, 1], RATE], window: [0, 12], g: (u, k, b) => erlang(u, k) / b },
  };
  // As many in the tails as in the middle, where most of the curve is.
  const GRID = Array.from({ length: 241 }, (_, n) => 1 / (1 + Math.exp(-(n - 120) / 12)));

  class Figure {
    constructor(root) {
      this.root = root;
      this.next = uniform(0);
      this.picture = svg(root, "svg", { viewBox: `0 0 ${LEFT + WIDTH + 14} ${FLOOR + 24}`, role: "img" });
      const clipped = svg(this.picture, "svg", { x: LEFT, width: WIDTH, height: FLOOR, viewBox: `${LEFT} 0 ${WIDTH} ${FLOOR}` });
      this.bars = svg(clipped, "path", { class: "bars" });
      this.curve = svg(clipped, "path", { class: "posterior" });
      this.density = svg(clipped, "path", { class: "posterior" });
      for (const y of [TOP, FLOOR]) svg(this.picture, "path", { d: `M${LEFT} ${y}h${WIDTH}`, class: "axis" });
      for (const u of [0, 0.5, 1]) {
        svg(this.picture, "text", { x: LEFT - 6, y: this.y(u) + 5, class: "end" }, String(u));
      }
      this.ticks = svg(this.picture, "g");
      this.way = svg(this.picture, "path", { class: "way" });
      this.beyond = svg(this.picture, "path", { class: "way beyond" }); // the draw is outside the window
      this.arrow = svg(this.picture, "path", { class: "q arrow" });
      this.point = svg(this.picture, "circle", { r: 5, class: "point" });
      const choice = html(root, "div", { class: "controls" });
      const label = html(choice, "label", {}, "law");
      this.choice = html(label, "select");
      for (const name of Object.keys(LAWS)) this.choice.append(new Option(name));
      this.choice.addEventListener("change", () => this.choose(this.choice.value));
      this.slide = slider(choice, "noise u", [0.001, 0.999, 0.7, 0.001], (u) => this.move(u));
      html(choice, "button", { type: "button" }, `Drop ${DRAWS} draws`)
        .addEventListener("click", () => this.drop());
      this.parameters = html(root, "div", { class: "controls" });
      this.said = html(root, "p", { "aria-live": "polite" });
      this.choose("Exponential");
    }

    choose(name) {
      this.stop();
      this.law = LAWS[name];
      this.name = name;
      this.noise = [];
      this.values = this.law.of.map(([, , , value]) => value);
      this.moved = this.law.of.findIndex(([, , , , step]) => !step);
      this.parameters.replaceChildren();
      this.law.of.forEach(([text, ...range], n) => slider(this.parameters, text, range, (value) => {
        this.values[n] = value;
        this.moved = n;
        this.show();
      }));
      this.show();
    }

    move(u) {
      this.stop();
      this.show(u);
    }

    stop() {
      cancelAnimationFrame(this.root.frame);
      this.goal = null;
      this.said.setAttribute("aria-live", "polite");
    }

    drop() {
      this.goal = (this.goal ?? this.noise.length) + DRAWS;
      this.said.setAttribute("aria-live", "off"); // a hundred sentences are not to be read out
      animate(this.root, () => {
        this.noise.push(this.next(), this.next());
        const done = this.noise.length >= this.goal;
        if (done) this.stop();
        this.slide.value = this.noise[this.noise.length - 1];
        this.show();
        return done;
      });
    }

    g(u, values = this.values) { return this.law.g(u, ...values); }

    /** The derivative of g in the parameter last moved; a whole number has none. */
    slope(u) {
      if (this.law.of[this.moved][4]) return null;
      const [up, down] = [1, -1].map((sign) =>
        this.g(u, this.values.map((value, n) => value + (n === this.moved ? sign * 1e-5 : 0))));
      return (up - down) / 2e-5;
    }

    x(z) {
      const [low, high] = this.law.window;
      return LEFT + (WIDTH * (z - low)) / (high - low);
    }

    y(u) { return 8 + (TOP - 8) * (1 - u); }

    show(u = Number(this.slide.value)) {
      const [low, high] = this.law.window;
      const grid = GRID.map((at) => {
        const step = 1e-4 * at * (1 - at);
        return { u: at, z: this.g(at), density: (2 * step) / (this.g(at + step) - this.g(at - step)) };
      });
      const top = 1.3 * Math.max(...grid.map(({ density }) => density));
      const height = (density) => FLOOR - (FLOOR - TOP - 26) * Math.min(1, density / top);
      const [first, last] = [this.x(grid[0].z), this.x(grid[grid.length - 1].z)];
      const [left, right] = [Math.min(LEFT, first), Math.max(LEFT + WIDTH, last)];
      this.curve.setAttribute("d", path([[left, this.y(0)], ...grid.map((at) => [this.x(at.z), this.y(at.u)]), [right, this.y(1)]]));
      this.density.setAttribute("d", path([[left, FLOOR], [first, FLOOR],
        ...grid.map((at) => [this.x(at.z), height(at.density)]), [last, FLOOR], [right, FLOOR]]));

      const counts = new Array(BINS).fill(0);
      const width = (high - low) / BINS;
      for (const one of this.noise) {
        const bin = Math.floor((this.g(one) - low) / width);
        if (bin in counts) counts[bin] += 1;
      }
      this.bars.setAttribute("d", counts.map((count, n) => {
        const edge = height(count / (this.noise.length * width || 1));
        return count ? `M${this.x(low + n * width).toFixed(1)} ${FLOOR}V${edge.toFixed(1)}h${(WIDTH / BINS - 1).toFixed(1)}V${FLOOR}Z` : "";
      }).join(""));

      this.ticks.replaceChildren();
      const space = high - low > 8 ? 4 : 2;
      for (let z = Math.ceil(low / space) * space; z <= high; z += space) {
        svg(this.ticks, "text", { x: this.x(z), y: FLOOR + 20, class: "tick" }, shown(z, 0));
      }

      const z = this.g(u);
      const slope = this.slope(u);
      const [x, y] = [Math.max(LEFT, Math.min(LEFT + WIDTH, this.x(z))), this.y(u)];
      const inside = low <= z && z <= high;
      const out = Math.sign(z - low); // to which side
      this.way.setAttribute("d", inside ? `M${LEFT} ${y}H${x}V${FLOOR}` : `M${out > 0 ? LEFT : LEFT + 30} ${y}H${x}`);
      this.beyond.setAttribute("d", inside ? "" : `M${x - 7 * out} ${y - 5}L${x} ${y}l${-7 * out} 5`);
      this.point.setAttribute("visibility", inside ? "visible" : "hidden");
      this.point.setAttribute("cx", x);
      this.point.setAttribute("cy", y);
      const end = Math.max(LEFT, Math.min(LEFT + WIDTH, this.x(z + LENGTH * (slope ?? 0))));
      const head = Math.sign(end - x) * Math.min(6, Math.abs(end - x));
      this.arrow.setAttribute("d", !inside || Math.abs(end - x) < 1 ? "" :
        `M${x} ${TOP + 12}H${end}M${end - head} ${TOP + 7}L${end} ${TOP + 12}l${-head} 5`);

      const [name] = this.law.of[this.moved];
      const set = this.law.of.map(([each, , , , step], n) => `${each} ${shown(this.values[n], step ? 0 : 2)}`);
      const text = `${this.name}, ${set.join(", ")}: u = ${shown(u, 3)}, z = g(u) = ${shown(z, 3)}, ` +
        (slope === null ? `no derivative in the whole number ${name}` : `∂z/∂${name} = ${shown(slope, 3)}`) +
        (this.noise.length ? `; ${this.noise.length} draws` : "");
      this.said.textContent = text;
      this.picture.setAttribute("aria-label", `Distribution function, and density with draws. ${text}`);
      Object.assign(this.root.dataset, { law: this.name, u, z, slope: slope ?? "", parameter: name,
                                         draws: this.noise.length, counts: counts.join(" ") });
    }
  }

  document.querySelectorAll(".interactive[data-figure='inverse-cdf']").forEach((root) => new Figure(root));
})();
