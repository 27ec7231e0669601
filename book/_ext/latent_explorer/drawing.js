/* A drawing becomes an image like those of MNIST: it is scaled to fit 20 by 20 pixels, and laid
   into 28 by 28 with its center of mass in the middle. */
"use strict";

(() => {
  const INNER = 20;
  const OUTER = 28;

  /** Average the ink over the square of each target pixel. */
  function shrink(ink, width, left, top, side, pixels) {
    const out = new Float32Array(pixels * pixels);
    const step = side / pixels;
    for (let row = 0; row < pixels; row++) {
      for (let column = 0; column < pixels; column++) {
        const [x0, y0] = [left + column * step, top + row * step];
        let [sum, area] = [0, 0];
        for (let y = Math.floor(y0); y < y0 + step; y++) {
          for (let x = Math.floor(x0); x < x0 + step; x++) {
            const share =
              (Math.min(x + 1, x0 + step) - Math.max(x, x0)) *
              (Math.min(y + 1, y0 + step) - Math.max(y, y0));
            area += share;
            if (x >= 0 && y >= 0 && x < width && y < width) sum += share * ink[y * width + x];
          }
        }
        out[row * pixels + column] = sum / area;
      }
    }
    return out;
  }

  /**
   * @param ink the drawing, width by width values in [0, 1]
   * @returns 28 by 28 values in [0, 1], or null where nothing was drawn
   */
  latentExplorer.likeMnist = (ink, width) => {
    let [left, right, top, bottom, mass, cx, cy] = [width, -1, width, -1, 0, 0, 0];
    for (let y = 0; y < width; y++) {
      for (let x = 0; x < width; x++) {
        const value = ink[y * width + x];
        if (value < 0.05) continue;
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
        mass += value;
        cx += value * (x + 0.5);
        cy += value * (y + 0.5);
      }
    }
    if (right < 0) return null;
    const scale = Math.max(right - left + 1, bottom - top + 1) / INNER;
    const side = scale * OUTER;
    return shrink(ink, width, cx / mass - side / 2, cy / mass - side / 2, side, OUTER);
  };
})();
