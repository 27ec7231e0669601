/* The paper's two networks, in plain JavaScript: one hidden layer of tanh units each. */
"use strict";

const latentExplorer = { models: {} };

(() => {
  /** The numbers in a base64 string of IEEE half-precision floats. */
  function halves(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const words = new Uint16Array(bytes.buffer);
    return Float32Array.from(words, (word) => {
      const sign = word & 0x8000 ? -1 : 1;
      const exponent = (word >> 10) & 31;
      const fraction = word & 1023;
      if (exponent === 0) return sign * fraction * 2 ** -24;
      return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    });
  }

  /** W x + b; W is stored row by row. */
  function linear(layer, x) {
    const { weight, bias } = layer;
    const out = new Float32Array(bias.length);
    for (let row = 0, at = 0; row < bias.length; row++) {
      let sum = bias[row];
      for (let column = 0; column < x.length; column++) sum += weight[at++] * x[column];
      out[row] = sum;
    }
    return out;
  }

  const tanh = (x) => x.map(Math.tanh);
  const sigmoid = (x) => x.map((value) => 1 / (1 + Math.exp(-value)));

  /** A part of a model arrives: its script calls this. */
  latentExplorer.receive = (name, part, content) => {
    const model = (latentExplorer.models[name] ??= {});
    if (part === "images") {
      const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      const codes = Float32Array.from(new Int8Array(bytes(content.codes).buffer), (c) => (c / 127) * content.spread);
      model.images = { codes, classes: bytes(content.classes), pixels: bytes(content.pixels) };
    } else {
      const layers = {};
      for (const [key, text] of Object.entries(content)) {
        const [layer, kind] = key.split(".");
        (layers[layer] ??= {})[kind] = halves(text);
      }
      model[part] = layers;
    }
  };

  /** The mean image of p(x|z), each pixel in (0, 1). */
  latentExplorer.decode = (model, z) => {
    const { hidden, logits, mean } = model.generative_model;
    return sigmoid(linear(logits ?? mean, tanh(linear(hidden, z))));
  };

  /** Mean and standard deviation of q(z|x). */
  latentExplorer.encode = (model, x) => {
    const layers = model.recognition_model;
    const h = tanh(linear(layers.hidden, x));
    const std = linear(layers.log_variance, h).map((value) => Math.exp(value / 2));
    return { mean: linear(layers.mean, h), std };
  };

  /** The divergence of q(z|x) from the prior, nats (Appendix B). */
  latentExplorer.divergence = ({ mean, std }) =>
    mean.reduce((sum, m, j) => sum + (m * m + std[j] ** 2 - 1) / 2 - Math.log(std[j]), 0);

  /** Estimator B of the bound of a digit, nats (eq. 10), with the noise that is given. */
  latentExplorer.bound = (model, x, q, noise) => {
    const { hidden, logits } = model.generative_model;
    let reconstruction = 0;
    for (const epsilon of noise) {
      const z = q.mean.map((m, j) => m + q.std[j] * epsilon[j]);
      const s = linear(logits, tanh(linear(hidden, z)));
      for (let i = 0; i < x.length; i++) {
        reconstruction += x[i] * s[i] - Math.max(s[i], 0) - Math.log1p(Math.exp(-Math.abs(s[i])));
      }
    }
    return reconstruction / noise.length - latentExplorer.divergence(q);
  };
})();
