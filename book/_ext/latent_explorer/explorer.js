/* The explorer: a plane or sliders for the latent variables, the image they stand for, and a
   place to draw a digit that is encoded. */
"use strict";

(() => {
  const SPREAD = 3.5; // the plane shows each latent variable from -SPREAD to SPREAD
  const PLANE = 300; // CSS pixels
  const DRAWING = 224;
  const CLASSES = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1",
                   "#9c755f", "#ff6fa8", "#7f7f7f", "#a0a000", "#17a2b8"];
  const NOISE = 64;

  /** A standard normal draw after the other, always the same ones. */
  function* normal() {
    let state = 20131220;
    const uniform = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    for (;;) yield Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  function element(parent, tag, attributes = {}, text = "") {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => value.toFixed(2).replace("-", "−");

  /** A canvas as sharp as the screen; the context draws in CSS pixels. */
  function sharp(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.aspectRatio = `${width} / ${height}`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    return context;
  }

  function paint(canvas, pixels, [rows, columns]) {
    canvas.width = columns;
    canvas.height = rows;
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    pixels.forEach((value, i) => image.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i));
    context.putImageData(image, 0, 0);
  }

  class Explorer {
    constructor(root) {
      this.root = root;
      this.choices = JSON.parse(root.dataset.models);
      this.fetched = {};
      root.replaceChildren();
      this.build();
      this.choose(this.choices[0]);
    }

    // -- What is on the page ---------------------------------------------------------------

    build() {
      const { root } = this;
      const models = element(root, "div", { class: "models", role: "group", "aria-label": "Model" });
      this.buttons = this.choices.map((choice) => {
        const button = element(models, "button", { type: "button" }, choice.label);
        button.addEventListener("click", () => this.choose(choice));
        return button;
      });
      const stage = element(root, "div", { class: "stage" });
      const latent = element(stage, "div", { class: "latent" });
      this.plane = element(latent, "canvas", { tabindex: 0, role: "application" });
      this.plane.setAttribute("aria-label",
        "The latent plane. The arrow keys move the point, with shift in larger steps; Home returns to zero.");
      this.sliders = element(latent, "div", { class: "sliders" });
      const decoded = element(stage, "figure");
      this.image = element(decoded, "canvas", { role: "img", class: "pixels", "aria-label": "The decoded image" });
      this.caption = element(decoded, "figcaption");
      this.draw = element(root, "div", { class: "draw" });
      this.pad = element(this.draw, "canvas", { role: "img", class: "pad",
        "aria-label": "Draw a digit here with a pointer or a finger. Without either, choose one of the test images beside it." });
      const beside = element(this.draw, "div", { class: "beside" });
      const pair = element(beside, "div", { class: "pair" });
      [this.seen, this.again] = ["encoded", "reconstruction"].map((name) => {
        const figure = element(pair, "figure");
        const canvas = element(figure, "canvas", { role: "img", class: "pixels", "aria-label": name });
        element(figure, "figcaption", {}, name);
        return canvas;
      });
      this.verdict = element(beside, "p", { class: "verdict", "aria-live": "polite" });
      this.given = element(beside, "div", { class: "given", role: "group", "aria-label": "Test images" });
      this.clear = element(beside, "button", { type: "button" }, "Clear");
      this.source = element(root, "p", { class: "source" });
      this.status = element(root, "p", { class: "visually-hidden", "aria-live": "polite" });
      this.listen();
    }

    listen() {
      const move = (event) => {
        const box = this.plane.getBoundingClientRect();
        const x = ((event.clientX - box.left) / box.width) * 2 - 1;
        const y = 1 - ((event.clientY - box.top) / box.height) * 2;
        this.moveTo([x * SPREAD, y * SPREAD]);
      };
      this.plane.addEventListener("pointermove", move);
      this.plane.addEventListener("pointerdown", move);
      this.plane.addEventListener("keydown", (event) => {
        const step = event.shiftKey ? 0.5 : 0.1;
        const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step],
                     ArrowDown: [0, -step] }[event.key];
        if (!this.model || (!by && event.key !== "Home")) return;
        event.preventDefault();
        this.moveTo(by ? this.z.map((value, j) => value + by[j]) : [0, 0]);
        this.say();
      });
      let from = null;
      const place = (event) => {
        const box = this.pad.getBoundingClientRect();
        const scale = DRAWING / box.width;
        return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      };
      this.pad.addEventListener("pointerdown", (event) => {
        this.pad.setPointerCapture(event.pointerId);
        from = place(event);
        this.stroke(from, from);
      });
      this.pad.addEventListener("pointermove", (event) => {
        if (!from) return;
        const to = place(event);
        this.stroke(from, to);
        from = to;
      });
      for (const name of ["pointerup", "pointercancel"]) {
        this.pad.addEventListener(name, () => { from = null; });
      }
      this.clear.addEventListener("click", () => this.forget());
      new MutationObserver(() => this.render()).observe(document.documentElement,
        { attributeFilter: ["data-theme"] });
    }

    // -- A model is chosen -----------------------------------------------------------------

    /** Fetch a part of a model when it is asked for first, and once, however often it is asked for. */
    fetch(choice, part) {
      const address = `${this.root.dataset.root}${choice.name}.${part}.js`;
      return (this.fetched[address] ??= new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = address;
        script.onload = resolve;
        script.onerror = () => {
          delete this.fetched[address]; // the next click asks again
          reject(new Error(`${address}: could not be read; try again`));
        };
        document.head.append(script);
      }));
    }

    async choose(choice) {
      this.choice = choice;
      this.choices.forEach((other, n) =>
        this.buttons[n].setAttribute("aria-pressed", other === choice));
      this.source.textContent = `Trained on ${choice.samples} samples, seed ${choice.seed}: ` +
        `record ${choice.name}. Computed in this page.`;
      try {
        await Promise.all(["generative_model", "images"].map((part) => this.fetch(choice, part)));
      } catch (error) {
        if (this.choice !== choice) return;
        this.model = null; // the one before is not the one that was chosen
        this.source.textContent = this.status.textContent = error.message;
        return;
      }
      if (this.choice !== choice) return; // another one was chosen meanwhile
      this.model = latentExplorer.models[choice.name];
      this.z = this.middle();
      this.q = null;
      const flat = choice.latent === 2;
      this.plane.hidden = !flat;
      this.sliders.hidden = flat;
      this.sliders.replaceChildren();
      this.inputs = flat ? [] : this.z.map((_, j) => this.slider(j));
      this.draw.hidden = choice.dataset !== "mnist";
      this.showGiven();
      this.verdict.textContent = ""; // it was the model's before
      if (!this.latestImage) this.forget();
      else if (!this.draw.hidden) this.recognize(this.latestImage); // the same digit in another model
      this.render();
      this.root.dataset.ready = choice.name;
    }

    /** Where the images are on average: the prior's middle may be a place where none is. */
    middle() {
      const { codes, classes } = this.model.images;
      const n = this.choice.latent;
      return Array.from({ length: n }, (_, j) => {
        let sum = 0;
        for (let i = j; i < codes.length; i += n) sum += codes[i];
        return classes.length ? sum / classes.length : 0;
      });
    }

    slider(j) {
      const label = element(this.sliders, "label");
      element(label, "span", {}, `z${j + 1}`);
      const input = element(label, "input", { type: "range", min: -SPREAD, max: SPREAD, step: 0.05, value: 0 });
      input.addEventListener("input", () => {
        this.z[j] = Number(input.value);
        this.later();
      });
      element(label, "output", { "aria-hidden": true }); // the slider itself tells its value
      return input;
    }

    showGiven() {
      const { pixels, classes } = this.model.images;
      this.given.replaceChildren();
      if (this.draw.hidden) return;
      for (let n = 0; n < pixels.length / 784; n++) {
        const x = Float32Array.from(pixels.subarray(784 * n, 784 * (n + 1)), (value) => value / 255);
        const button = element(this.given, "button", { type: "button",
          "aria-label": `Test image of a ${n}`, style: `border-color: ${CLASSES[n]}` });
        paint(element(button, "canvas", { class: "pixels" }), x, [28, 28]);
        button.addEventListener("click", () => {
          this.wipe();
          this.recognize(x);
        });
      }
      if (!classes.length) element(this.given, "span", {}, "The data set was not there when this page was built.");
    }

    // -- The point and its image -----------------------------------------------------------

    moveTo(z) {
      if (!this.model || this.choice.latent !== 2) return;
      this.z = z.map((value) => Math.max(-SPREAD, Math.min(SPREAD, value)));
      this.later();
    }

    /** Render once before the next frame, however many events there were. */
    later() {
      this.pending ??= requestAnimationFrame(() => {
        this.pending = null;
        this.render();
      });
    }

    render() {
      if (!this.model) return;
      paint(this.image, latentExplorer.decode(this.model, this.z), this.choice.size);
      this.image.setAttribute("aria-label", `The image decoded at z = ${this.position()}`);
      this.caption.textContent = this.choice.latent === 2 ? `z = ${this.position()}` : "";
      this.inputs.forEach((input, j) => {
        input.value = this.z[j];
        input.nextSibling.textContent = shown(this.z[j]);
      });
      if (!this.plane.hidden) this.renderPlane();
    }

    position() {
      return `(${this.z.map(shown).join(", ")})`;
    }

    say() {
      this.status.textContent = `z = ${this.position()}`;
    }

    renderPlane() {
      const context = sharp(this.plane, PLANE, PLANE);
      const at = (value) => (PLANE / 2) * (1 + value / SPREAD);
      const unit = PLANE / 2 / SPREAD;
      const { codes, classes } = this.model.images;
      const digits = this.choice.dataset === "mnist";
      context.globalAlpha = 0.5;
      for (let n = 0; n < classes.length; n++) {
        context.fillStyle = digits ? CLASSES[classes[n]] : color("--pst-color-text-muted");
        context.fillRect(at(codes[2 * n]) - 1, PLANE - at(codes[2 * n + 1]) - 1, 2, 2);
      }
      context.globalAlpha = 1;
      context.strokeStyle = color("--pst-color-border");
      for (const radius of [1, 2, 3]) {
        context.beginPath();
        context.arc(PLANE / 2, PLANE / 2, radius * unit, 0, 2 * Math.PI);
        context.stroke();
      }
      if (this.q) {
        context.strokeStyle = color("--pst-color-text-base");
        for (const times of [1, 2]) {
          const [width, height] = Array.from(this.q.std, (std) => Math.max(times * std * unit, 1));
          context.beginPath();
          context.ellipse(at(this.q.mean[0]), PLANE - at(this.q.mean[1]), width, height, 0, 0, 2 * Math.PI);
          context.stroke();
        }
      }
      context.beginPath();
      context.arc(at(this.z[0]), PLANE - at(this.z[1]), 6, 0, 2 * Math.PI);
      context.fillStyle = color("--pst-color-primary");
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = color("--pst-color-background");
      context.stroke();
    }

    // -- A drawing and what the recognition model makes of it ------------------------------

    wipe() {
      const context = this.pad.getContext("2d", { willReadFrequently: true });
      this.pad.width = this.pad.height = DRAWING;
      context.fillStyle = "#000";
      context.fillRect(0, 0, DRAWING, DRAWING);
    }

    forget() {
      this.wipe();
      this.q = this.latestImage = null;
      for (const canvas of [this.seen, this.again]) paint(canvas, new Float32Array(784), [28, 28]);
      this.verdict.textContent = this.draw.hidden ? "" : "Draw a digit in the black square, or choose a test image.";
      this.render();
    }

    stroke([x0, y0], [x1, y1]) {
      const context = this.pad.getContext("2d", { willReadFrequently: true });
      context.strokeStyle = "#fff";
      context.lineWidth = DRAWING / 14;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1 + 0.01, y1);
      context.stroke();
      const { data } = context.getImageData(0, 0, DRAWING, DRAWING);
      const ink = Float32Array.from({ length: DRAWING ** 2 }, (_, i) => data[4 * i] / 255);
      const x = latentExplorer.likeMnist(ink, DRAWING);
      if (x) this.recognize(x);
    }

    async recognize(x) {
      const { choice } = this;
      this.latestImage = x; // the fetch may take a moment, in which more is drawn
      try {
        await this.fetch(choice, "recognition_model");
      } catch (error) {
        if (this.choice === choice) this.verdict.textContent = error.message;
        return;
      }
      if (!this.model || this.choice !== choice || this.latestImage !== x) return;
      this.q = latentExplorer.encode(this.model, x);
      const draws = normal();
      const noise = Array.from({ length: NOISE }, () => this.z.map(() => draws.next().value));
      const kl = latentExplorer.divergence(this.q);
      const bound = latentExplorer.bound(this.model, x, this.q, noise);
      this.z = Array.from(this.q.mean, (value) => Math.max(-SPREAD, Math.min(SPREAD, value)));
      paint(this.seen, x, [28, 28]);
      paint(this.again, latentExplorer.decode(this.model, this.q.mean), [28, 28]);
      this.verdict.textContent = `Bound ${bound.toFixed(1).replace("-", "−")} nats, ` +
        `of which the divergence from the prior takes ${kl.toFixed(1)}.`;
      Object.assign(this.root.dataset, { bound, kl });
      this.render();
    }
  }

  /** Start an explorer when the reader comes near it. */
  function start(root) {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      root.explorer = new Explorer(root);
    }, { rootMargin: "200px" });
    observer.observe(root);
  }

  document.querySelectorAll(".latent-explorer").forEach(start);
})();
