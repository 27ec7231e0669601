/* Eq. 1 with one latent variable: p(z) = N(0, 1), p(x|z) = N(z, 0.6^2), x = 1.6. The posterior is
   Gaussian and the evidence known, so that bound and gap are exact for every Gaussian q. */
"use strict";

(() => {
  const { svg, html, shown } = drawing;
  const [X, NOISE] = [1.6, 0.6];
  const POSTERIOR = { mean: X / (1 + NOISE ** 2), variance: NOISE ** 2 / (1 + NOISE ** 2) };
  const EVIDENCE = -0.5 * (Math.log(2 * Math.PI * (1 + NOISE ** 2)) + X ** 2 / (1 + NOISE ** 2));
  const [WIDTH, HEIGHT, LEFT, RIGHT] = [420, 200, -3, 3];
  const LOWEST = -10; // nats, at the foot of the column
  const COLUMN = { x: WIDTH + 30, width: 80 };
  const ROOM = 20; // for a name in a part of the column

  const normal = (z, mean, std) =>
    Math.exp(-0.5 * ((z - mean) / std) ** 2) / (std * Math.sqrt(2 * Math.PI));

  /** KL(q || p(z|x)) of q = N(mean, std^2). */
  const gap = ({ mean, std }) =>
    Math.log(Math.sqrt(POSTERIOR.variance) / std) - 0.5 +
    (std ** 2 + (mean - POSTERIOR.mean) ** 2) / (2 * POSTERIOR.variance);

  class Figure {
    constructor(root) {
      this.root = root;
      this.q = { mean: -0.3, std: 1 };
      const picture = svg(root, "svg", { viewBox: `0 0 ${WIDTH + 130} ${HEIGHT + 30}`, role: "img" });
      this.picture = picture;
      svg(picture, "path", { d: this.path((z) => normal(z, 0, 1)), class: "prior" });
      svg(picture, "path", { d: this.path((z) => normal(z, POSTERIOR.mean, Math.sqrt(POSTERIOR.variance))), class: "posterior" });
      this.curve = svg(picture, "path", { class: "q" });
      svg(picture, "path", { d: `M0 ${HEIGHT}H${WIDTH}`, class: "axis" });
      for (const z of [-2, 0, 2]) {
        svg(picture, "text", { x: this.x(z), y: HEIGHT + 20, class: "tick" }).textContent = String(z).replace("-", "−");
      }
      for (const [text, y, kind] of [["prior p(z)", 20, "prior"], ["posterior p(z|x)", 42, "posterior"], ["q(z)", 64, "q"]]) {
        svg(picture, "text", { x: 6, y, class: `name ${kind}` }).textContent = text;
      }
      this.bound = svg(picture, "rect", { ...COLUMN, class: "bound" });
      this.gap = svg(picture, "rect", { ...COLUMN, class: "gap" });
      svg(picture, "path", { d: `M${COLUMN.x - 10} ${this.y(EVIDENCE)}h${COLUMN.width + 20}`, class: "evidence" });
      const name = (text, y = 0) => svg(picture, "text", { x: COLUMN.x + COLUMN.width / 2, y, class: "tick" }, text);
      name("log p(x)", this.y(EVIDENCE) - 8);
      this.boundName = name("bound");
      this.gapName = name("divergence");
      const controls = html(root, "div", { class: "controls" });
      this.inputs = Object.fromEntries([["mean", "mean of q", -3, 3], ["std", "standard deviation of q", 0.1, 2.5]].map(
        ([name, text, min, max]) => {
          const label = html(controls, "label", {}, text);
          const input = html(label, "input", { type: "range", min, max, step: 0.01 });
          input.addEventListener("input", () => { this.stop(); this.set({ ...this.q, [name]: Number(input.value) }); });
          return [name, input];
        }));
      this.button = html(controls, "button", { type: "button" }, "Climb the bound");
      this.button.addEventListener("click", () => this.climb());
      this.said = html(root, "p", { "aria-live": "polite" });
      this.set(this.q);
    }

    x(z) { return ((z - LEFT) / (RIGHT - LEFT)) * WIDTH; }

    y(nats) { return HEIGHT * (1 - (Math.max(nats, LOWEST) - LOWEST) / -LOWEST); }

    path(density) {
      const points = Array.from({ length: 181 }, (_, n) => {
        const z = LEFT + ((RIGHT - LEFT) * n) / 180;
        return `${this.x(z).toFixed(1)} ${(HEIGHT * (1 - Math.min(density(z), 1.05) / 1.1)).toFixed(1)}`;
      });
      return `M${points.join("L")}`;
    }

    set(q) {
      this.q = q;
      const kl = gap(q);
      const bound = EVIDENCE - kl;
      this.curve.setAttribute("d", this.path((z) => normal(z, q.mean, q.std)));
      const [foot, top, edge] = [HEIGHT, this.y(EVIDENCE), this.y(bound)];
      this.bound.setAttribute("y", edge);
      this.bound.setAttribute("height", Math.max(0, foot - edge));
      this.gap.setAttribute("y", top);
      this.gap.setAttribute("height", Math.max(0, edge - top));
      this.place(this.boundName, edge, foot);
      this.place(this.gapName, top, edge);
      for (const name of ["mean", "std"]) this.inputs[name].value = q[name];
      const text = `bound ${shown(bound)} + divergence ${shown(kl)} = log p(x) ${shown(EVIDENCE)} nats`;
      this.picture.setAttribute("aria-label", `Prior, posterior and q over z, and a column: ${text}`);
      this.said.textContent = text;
      Object.assign(this.root.dataset, { bound, kl, evidence: EVIDENCE });
    }

    /** A name in the middle of its part of the column, where there is room. */
    place(name, top, foot) {
      name.setAttribute("y", (top + foot) / 2 + 5);
      name.setAttribute("visibility", foot - top < ROOM ? "hidden" : "visible");
    }

    stop() { cancelAnimationFrame(this.frame); }

    /** Gradient ascent on the bound in the mean and the log of the standard deviation. */
    climb() {
      this.stop();
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const step = () => {
        const { mean, std } = this.q;
        const slope = [(POSTERIOR.mean - mean) / POSTERIOR.variance, 1 - std ** 2 / POSTERIOR.variance];
        const next = { mean: mean + 0.02 * slope[0], std: std * Math.exp(Math.max(-0.3, 0.03 * slope[1])) };
        const done = Math.abs(slope[0]) + Math.abs(slope[1]) < 1e-3;
        if (still) this.q = next; else this.set(next);
        return done;
      };
      if (still) {
        while (!step());
        this.set(this.q);
        return;
      }
      const animate = () => { if (!step()) this.frame = requestAnimationFrame(animate); };
      animate();
    }
  }

  document.querySelectorAll(".interactive[data-figure='bound-and-gap']").forEach((root) => new Figure(root));
})();
