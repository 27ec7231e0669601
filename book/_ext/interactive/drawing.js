/* What the interactive figures share. */
"use strict";

globalThis.drawing ??= (() => {
  function made(parent, element, attributes, text) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    parent.append(element);
    return element;
  }

  return {
    svg: (parent, tag, attributes = {}, text = "") =>
      made(parent, document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, text),

    html: (parent, tag, attributes = {}, text = "") =>
      made(parent, document.createElement(tag), attributes, text),

    /** A labelled slider; `moved` is called with its new value. */
    slider(parent, text, [min, max, value, step = 0.01], moved) {
      const label = drawing.html(parent, "label", {}, text);
      const input = drawing.html(label, "input", { type: "range", min, max, step, value });
      input.addEventListener("input", () => moved(Number(input.value)));
      return input;
    },

    shown: (value, digits = 2) => value.toFixed(digits).replace("-", "−"),

    /** At most four digits that count, in groups of three: 43,080. */
    rounded: (value, digits = 2) => Number(value.toPrecision(4)).toLocaleString("en", {
      minimumFractionDigits: Math.abs(value) < 100 ? digits : 0, maximumFractionDigits: digits,
    }).replace("-", "−"),

    path: (points) => `M${points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`,

    /** Uniform draws on (0, 1), the same for the same seed (mulberry32). */
    uniform(seed) {
      let state = seed;
      return () => {
        state = (state + 0x6d2b79f5) | 0;
        let t = Math.imul(state ^ (state >>> 15), 1 | state);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
      };
    },

    /** Call `step` each frame until it returns true; all at once where motion is not wanted. */
    animate(root, step) {
      cancelAnimationFrame(root.frame);
      if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
        while (!step());
        return;
      }
      const next = () => { if (!step()) root.frame = requestAnimationFrame(next); };
      next();
    },
  };
})();
