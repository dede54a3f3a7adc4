// From black strokes on white paper to the bytes that the network sees: what fastlenet.images computes, to the bit.
// Each function has the name of its twin in images/ink.py, shapes.py, choosing.py and framing.py, where the reasons stand.
// A page is {h, w, pixels}: one byte of gray for each pixel, 255 is paper.

const SIDE = 28, BOX = 20;
const MIDDLE = SIDE / 2 + 0.5, FINE = 4, CONTRAST = 3, THINNEST = 2, MARGIN = 0.06;
const FAINTEST = 0.06, FEWEST = 12;
const SMALLEST = 8, SPECK = 0.12, FIGURE = 0.4, NEAR = 0.15, TOUCHING = 0.06, SAMPLE = 600, MOST = 200, TIGHT = 0.9, LINE = 0.2;

const float32 = Math.fround;

/** The nearest integer, ties to even, as NumPy's rint: adding 1.5 * 2^52 leaves a double no bit for a fraction. */
function rint(x) {
  return x + 6755399441055744 - 6755399441055744;
}

// ---- ink.py

/** The rectangle of the page that holds all ink and its blurred edge: {top, left, h, w}, or null if there is none. */
function inkedPart(page) {
  let top = page.h, bottom = -1, left = page.w, right = -1;
  for (let y = 0, i = 0; y < page.h; y++) {
    for (let x = 0; x < page.w; x++, i++) {
      if (page.pixels[i] === 255) continue;
      if (y < top) top = y;
      bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  if (bottom < 0) return null;
  top = Math.max(0, top - 2);
  left = Math.max(0, left - 2);
  return {top, left, h: Math.min(page.h, bottom + 3) - top, w: Math.min(page.w, right + 3) - left};
}

/** Density and smooth of the part's ink, and whether it is clear. Paper is exactly one value here: nothing is estimated. */
function drawn(page, part) {
  const {h, w} = part;
  const flat = new Float32Array(h * w);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      flat[y * w + x] = 1 - float32(page.pixels[(part.top + y) * page.w + part.left + x] / 255);
    }
  }
  const smooth = blurred(flat, h, w);
  const level = inkLevel(smooth);
  const unit = float32(Math.max(level, 1e-6));
  for (let i = 0; i < flat.length; i++) {
    flat[i] /= unit;
    smooth[i] /= unit;
  }
  return {density: flat, smooth, clear: level > FAINTEST};
}

function blurred(gray, h, w) {
  const rows = new Float32Array(h * w), result = new Float32Array(h * w);
  for (let y = 0; y < h; y++) {
    const above = Math.max(0, y - 1) * w, here = y * w, below = Math.min(h - 1, y + 1) * w;
    for (let x = 0; x < w; x++) rows[here + x] = float32(gray[above + x] + 2 * gray[here + x]) + gray[below + x];
  }
  for (let y = 0; y < h; y++) {
    const row = y * w;
    for (let x = 0; x < w; x++) {
      const before = rows[row + Math.max(0, x - 1)], after = rows[row + Math.min(w - 1, x + 1)];
      result[row + x] = float32(float32(before + 2 * rows[row + x]) + after) / 16;
    }
  }
  return result;
}

/** The mean of what lies above half of that mean. The sums of float32 are exact in a double. */
function inkLevel(smooth) {
  const inked = new Float32Array(smooth.length), strongest = new Float64Array(FEWEST); // in descending order
  let size = 0;
  for (let i = 0; i < smooth.length; i++) {
    const value = smooth[i];
    if (value > 0) inked[size++] = value;
    let place = FEWEST - 1;
    if (value <= strongest[place]) continue;
    for (; place > 0 && strongest[place - 1] < value; place--) strongest[place] = strongest[place - 1];
    strongest[place] = value;
  }
  let level = strongest[FEWEST - 1];
  for (let turn = 0; turn < 50; turn++) {
    const half = float32(level / 2), before = level;
    let sum = 0, count = 0;
    for (let i = 0; i < size; i++) {
      if (inked[i] <= half) continue;
      sum += inked[i];
      count++;
    }
    level = count ? sum / count : 0;
    if (Math.abs(level - before) < 1e-4) break;
  }
  return level;
}

// ---- shapes.py

class Shape {
  constructor(top, left, height, width, mask) {
    Object.assign(this, {top, left, height, width, mask, area: 0});
    this.bottom = top + height;
    this.right = left + width;
    this.size = Math.max(height, width);
    for (const inked of mask) this.area += inked;
  }

  joined(other) {
    const top = Math.min(this.top, other.top), left = Math.min(this.left, other.left);
    const h = Math.max(this.bottom, other.bottom) - top, w = Math.max(this.right, other.right) - left;
    const mask = new Uint8Array(h * w);
    for (const part of [this, other]) {
      for (let y = 0; y < part.height; y++) {
        const row = (part.top - top + y) * w + part.left - left;
        for (let x = 0; x < part.width; x++) mask[row + x] |= part.mask[y * part.width + x];
      }
    }
    return new Shape(top, left, h, w, mask);
  }
}

/** The components of a mask that touch by sides or corners, the largest area first; places count from the part's corner. */
function connectedShapes(mask, h, w) {
  const runs = [], parent = [];
  const root = (node) => {
    while (parent[node] !== node) node = parent[node] = parent[parent[node]];
    return node;
  };
  for (let y = 0, above = 0, row = 0; y < h; y++, above = row, row = runs.length) {
    for (let x = 0; x < w; x++) {
      if (!mask[y * w + x]) continue;
      const start = x;
      while (x < w && mask[y * w + x]) x++;
      const run = runs.length;
      runs.push([y, start, x]);
      parent.push(run);
      for (let other = above; other < row; other++) {
        if (runs[other][1] > x || runs[other][2] < start) continue;
        const one = root(other), two = root(run);
        parent[Math.max(one, two)] = Math.min(one, two);
      }
    }
  }
  const groups = new Map();
  runs.forEach((run, index) => {
    const label = root(index);
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(run);
  });
  return [...groups.values()].map(shapeOf).sort((one, other) => other.area - one.area);
}

function shapeOf(runs) {
  const top = runs[0][0], bottom = runs[runs.length - 1][0] + 1;
  const left = Math.min(...runs.map((run) => run[1])), right = Math.max(...runs.map((run) => run[2]));
  const w = right - left, mask = new Uint8Array((bottom - top) * w);
  for (const [y, start, stop] of runs) mask.fill(1, (y - top) * w + start - left, (y - top) * w + stop - left);
  return new Shape(top, left, bottom - top, w, mask);
}

// ---- choosing.py

/** What on the page might be a digit or another figure of about that size, largest first. */
function findFigures(smooth, part, page) {
  const mask = new Uint8Array(smooth.length);
  for (let i = 0; i < mask.length; i++) mask[i] = smooth[i] > 0.5 ? 1 : 0;
  let shapes = connectedShapes(mask, part.h, part.w).map((shape) => {
    return new Shape(shape.top + part.top, shape.left + part.left, shape.height, shape.width, shape.mask);
  });
  shapes = shapes.filter((shape) => shape.area >= SMALLEST && shape.size >= SMALLEST && !isLine(shape, page));
  shapes = withoutEdges(shapes, page);
  const largest = Math.max(...shapes.map((shape) => shape.size));
  return joinedFigures(shapes.filter((shape) => shape.size >= SPECK * largest).slice(0, MOST));
}

function ofOneSize(figures) {
  return figures.filter((figure) => figure.size >= FIGURE * figures[0].size);
}

function isLine(shape, page) {
  const high = shape.height / page.h, wide = shape.width / page.w;
  return (wide > 0.98 && high < LINE) || (high > 0.98 && wide < LINE);
}

function touchesEdge(shape, page) {
  return shape.top === 0 || shape.left === 0 || shape.bottom === page.h || shape.right === page.w;
}

function cutOff(figure, page) {
  return touchesEdge(figure, page) && !(figure.height > TIGHT * page.h && figure.width > TIGHT * page.w);
}

function withoutEdges(shapes, page) {
  const inside = shapes.filter((shape) => !touchesEdge(shape, page));
  const largest = Math.max(0, ...shapes.map((shape) => shape.size));
  return inside.some((shape) => shape.size >= 0.25 * largest) ? inside : shapes;
}

function joinedFigures(shapes) {
  let figures = [];
  for (let shape of [...shapes].sort((one, other) => other.size - one.size)) {
    const kin = figures.filter((figure) => belongTogether(shape, figure));
    figures = figures.filter((figure) => !kin.includes(figure));
    for (const figure of kin) shape = shape.joined(figure);
    figures.push(shape);
  }
  return figures.sort((one, other) => other.size - one.size);
}

function belongTogether(one, other) {
  const [part, figure] = one.area <= other.area ? [one, other] : [other, one];
  const shared = Math.min(part.right, figure.right) - Math.max(part.left, figure.left);
  if (Math.max(-shared, part.top - figure.bottom, figure.top - part.bottom) > NEAR * figure.size) return false;
  const beside = shared >= Math.min(part.width, figure.width) / 2 || part.area <= figure.area / 4;
  return gap(part, figure) <= (beside ? NEAR : TOUCHING) * figure.size;
}

function gap(one, other) {
  const first = outline(one), second = outline(other);
  let least = Infinity;
  for (let i = 0; i < first.length; i += 2) {
    for (let j = 0; j < second.length; j += 2) {
      const down = first[i] - second[j], across = first[i + 1] - second[j + 1];
      least = Math.min(least, down * down + across * across);
    }
  }
  return Math.sqrt(least) - 1;
}

/** Rows and columns, in turn, of the inked pixels beside others, or of some hundred of them. */
function outline(shape) {
  const {height, width, mask} = shape, places = [];
  const inked = (y, x) => y >= 0 && y < height && x >= 0 && x < width && mask[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inked(y, x)) continue;
      if (inked(y - 1, x) && inked(y + 1, x) && inked(y, x - 1) && inked(y, x + 1)) continue;
      places.push([y + shape.top, x + shape.left]);
    }
  }
  const step = 1 + Math.floor(places.length / SAMPLE);
  return places.filter((_, index) => index % step === 0).flat();
}

// ---- framing.py. An image is {h, w, pixels}, of floats.

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
