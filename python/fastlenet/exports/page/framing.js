// From a figure to the bytes that the network sees: what images/framing.py computes, to the bit, by functions of the same names.
// An image is {h, w, pixels}, of floats.

const SIDE = 28, BOX = 20;
const MIDDLE = SIDE / 2 + 0.5, FINE = 4, CONTRAST = 3, THINNEST = 2, MARGIN = 0.06;

/** One shape's ink as SIDE * SIDE bytes: white on black, in the box, its centre of mass in the middle. */
function frame(density, part, shape) {
  const fine = thickened(blackAndWhite(density, part, shape));
  const tight = cropped(fine);
  if (tight === null) return new Uint8Array(SIDE * SIDE);
  const scale = BOX / Math.max(tight.h, tight.w);
  const [h, w] = [tight.h, tight.w].map((size) => Math.max(1, rint(size * scale)));
  const box = resized(tight, areas(tight.h, h), areas(tight.w, w));
  return centred({h, w, pixels: Uint8Array.from(box.pixels, (value) => rint(value * 255))});
}

function blackAndWhite(density, part, shape) {
  const size = (FINE * BOX) / shape.size, margin = 1 + rint(MARGIN * shape.size);
  const top = Math.max(0, shape.top - margin), left = Math.max(0, shape.left - margin);
  const bottom = Math.min(part.pageHeight, shape.bottom + margin), right = Math.min(part.pageWidth, shape.right + margin);
  const h = bottom - top, w = right - left;
  const near = new Float32Array(h * w), own = new Float32Array(h * w);
  for (let y = Math.max(top, part.top); y < Math.min(bottom, part.top + part.h); y++) {
    for (let x = Math.max(left, part.left); x < Math.min(right, part.left + part.w); x++) {
      near[(y - top) * w + x - left] = density[(y - part.top) * part.w + x - part.left];
    }
  }
  for (let y = 0; y < shape.height; y++) {
    const row = (shape.top - top + y) * w + shape.left - left;
    for (let x = 0; x < shape.width; x++) own[row + x] = shape.mask[y * shape.width + x];
  }
  const [down, across] = [h, w].map((n) => resampling(n, Math.max(1, rint(n * size)), 1 / size));
  const around = resized({h, w, pixels: own}, down, across), fine = resized({h, w, pixels: near}, down, across);
  for (let i = 0; i < around.pixels.length; i++) around.pixels[i] = around.pixels[i] > 0.25 ? 1 : 0;
  const mask = widened(around, 3).pixels, sharp = new Float32Array(mask.length);
  for (let i = 0; i < sharp.length; i++) sharp[i] = fine.pixels[i] * mask[i];
  const unit = float32(Math.max(inkLevel(sharp), 1e-6));
  for (let i = 0; i < sharp.length; i++) {
    const value = float32(float32(float32(float32(sharp[i] / unit) - 0.5) * CONTRAST) + 0.5);
    sharp[i] = Math.min(Math.max(value, 0), 1);
  }
  return {h: fine.h, w: fine.w, pixels: sharp};
}

/** A resampling along one axis: y[i] = sum of weights[i * taps + t] * x[places[i * taps + t]]. */
function makeTaps(after, taps) {
  return {after, taps, places: new Int32Array(after * taps), weights: new Float64Array(after * taps)};
}

function resampling(before, after, step) {
  const reach = Math.max(1, step), made = makeTaps(after, Math.floor(2 * reach) + 1), {taps} = made;
  for (let i = 0; i < after; i++) {
    const place = (i + 0.5) * step - 0.5, first = Math.ceil(place - reach);
    let total = 0;
    for (let t = 0; t < taps; t++) {
      const from = first + t, inside = from >= 0 && from < before;
      const weight = inside ? Math.max(1 - Math.abs(place - from) / reach, 0) : 0;
      total += weight;
      made.places[i * taps + t] = Math.min(Math.max(from, 0), before - 1);
      made.weights[i * taps + t] = weight;
    }
    for (let t = 0; t < taps; t++) made.weights[i * taps + t] /= Math.max(total, 1e-6);
  }
  return made;
}

function areas(before, after) {
  const made = makeTaps(after, Math.ceil(before / after) + 1), {taps} = made;
  for (let part = 0; part < after; part++) {
    for (let t = 0; t < taps; t++) {
      const place = Math.floor((part * before) / after) + t;
      const covered = Math.min((part + 1) * before, (place + 1) * after) - Math.max(part * before, place * after);
      made.places[part * taps + t] = Math.min(place, before - 1);
      made.weights[part * taps + t] = Math.max(covered, 0) / before;
    }
  }
  return made;
}

/** Along the columns, then along the rows; each sum tap by tap, in doubles. */
function resized(image, down, across) {
  const {w} = image, rows = new Float64Array(down.after * w), pixels = new Float64Array(down.after * across.after);
  for (let i = 0; i < down.after; i++) {
    for (let t = 0; t < down.taps; t++) {
      const weight = down.weights[i * down.taps + t], from = down.places[i * down.taps + t] * w;
      if (weight === 0) continue;
      for (let x = 0; x < w; x++) rows[i * w + x] += weight * image.pixels[from + x];
    }
  }
  for (let i = 0; i < down.after; i++) {
    for (let j = 0; j < across.after; j++) {
      let sum = 0;
      for (let t = 0; t < across.taps; t++) {
        sum += across.weights[j * across.taps + t] * rows[i * w + across.places[j * across.taps + t]];
      }
      pixels[i * across.after + j] = sum;
    }
  }
  return {h: down.after, w: across.after, pixels};
}

/** Twice the area over the outline. */
function strokeWidth(fine) {
  const {h, w, pixels} = fine;
  const black = (y, x) => y >= 0 && y < h && x >= 0 && x < w && pixels[y * w + x] > 0.5;
  let area = 0, edges = 0;
  for (let y = 0; y <= h; y++) {
    for (let x = 0; x <= w; x++) {
      const here = black(y, x);
      if (here) area++;
      if (here !== black(y - 1, x)) edges++;
      if (here !== black(y, x - 1)) edges++;
    }
  }
  return (2 * area) / Math.max(1, (edges * Math.PI) / 4);
}

function thickened(fine) {
  const missing = THINNEST * FINE - strokeWidth(fine), reach = Math.ceil(missing / 2);
  return missing <= 0.5 ? fine : widened(padded(fine, reach), reach);
}

function padded(image, margin) {
  const h = image.h + 2 * margin, w = image.w + 2 * margin, pixels = new Float32Array(h * w);
  for (let y = 0; y < image.h; y++) {
    pixels.set(image.pixels.subarray(y * image.w, (y + 1) * image.w), (y + margin) * w + margin);
  }
  return {h, w, pixels};
}

/** Each pixel the largest within a circle of that radius. */
function widened(image, reach) {
  const {h, w} = image, pixels = Float32Array.from(image.pixels);
  for (let down = -reach; down <= reach; down++) {
    const half = Math.floor(Math.sqrt(reach * reach - down * down + 0.5));
    for (let y = Math.max(0, -down); y < Math.min(h, h - down); y++) {
      for (let right = -half; right <= half; right++) {
        const from = (y + down) * w + right;
        for (let x = Math.max(0, -right); x < Math.min(w, w - right); x++) {
          if (image.pixels[from + x] > pixels[y * w + x]) pixels[y * w + x] = image.pixels[from + x];
        }
      }
    }
  }
  return {h, w, pixels};
}

/** The smallest part that holds all black, or null. */
function cropped(fine) {
  let top = fine.h, bottom = -1, left = fine.w, right = -1;
  fine.pixels.forEach((value, index) => {
    if (!(value > 0.5)) return;
    const y = Math.floor(index / fine.w), x = index % fine.w;
    top = Math.min(top, y);
    bottom = y;
    left = Math.min(left, x);
    right = Math.max(right, x);
  });
  if (bottom < 0) return null;
  const h = bottom - top + 1, w = right - left + 1, pixels = new Float32Array(h * w);
  for (let y = 0; y < h; y++) {
    const from = (top + y) * fine.w + left;
    pixels.set(fine.pixels.subarray(from, from + w), y * w);
  }
  return {h, w, pixels};
}

function centred(box) {
  const rows = new Float64Array(box.h), columns = new Float64Array(box.w);
  box.pixels.forEach((value, index) => {
    rows[Math.floor(index / box.w)] += value;
    columns[index % box.w] += value;
  });
  const [top, left] = [rows, columns].map((sums) => {
    return Math.min(Math.max(rint(MIDDLE - centre(sums)), 0), SIDE - sums.length);
  });
  const whole = new Uint8Array(SIDE * SIDE);
  for (let y = 0; y < box.h; y++) whole.set(box.pixels.subarray(y * box.w, (y + 1) * box.w), (top + y) * SIDE + left);
  return whole;
}

function centre(sums) {
  let moment = 0, total = 0;
  sums.forEach((sum, index) => {
    moment += sum * (2 * index + 1);
    total += sum;
  });
  return moment / Math.max(2 * total, 1);
}

// ---- what the page calls

/** The page's largest figure, as fastlenet.predict_image frames it: {image, count, cut}; count 0 if there is none. */
function frameFigure(page) {
  const part = inkedPart(page), nothing = {image: new Uint8Array(SIDE * SIDE), count: 0, cut: false};
  if (part === null) return nothing;
  Object.assign(part, {pageHeight: page.h, pageWidth: page.w});
  const {density, smooth, clear} = drawn(page, part);
  const figures = clear ? ofOneSize(findFigures(smooth, part, page)) : [];
  if (figures.length === 0) return nothing;
  return {image: frame(density, part, figures[0]), count: figures.length, cut: cutOff(figures[0], page)};
}

/** The whole page as h * w bytes, white on black: means over equal areas, in whole numbers until the last division. */
function frameWhole(page, h, w) {
  const image = new Uint8Array(h * w);
  const parts = (before, after, part) => {
    const covered = [];
    for (let place = Math.floor((part * before) / after); place * after < (part + 1) * before; place++) {
      const low = Math.max(part * before, place * after), high = Math.min((part + 1) * before, (place + 1) * after);
      covered.push([place, high - low]);
    }
    return covered;
  };
  for (let i = 0; i < h; i++) {
    for (let j = 0; j < w; j++) {
      let sum = 0;
      for (const [y, high] of parts(page.h, h, i)) {
        for (const [x, wide] of parts(page.w, w, j)) sum += high * wide * (255 - page.pixels[y * page.w + x]);
      }
      image[i * w + j] = rint(sum / (page.h * page.w));
    }
  }
  return {image, count: image.some((value) => value > 0) ? 1 : 0, cut: false};
}
