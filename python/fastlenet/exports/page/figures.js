// From black strokes on white paper to the largest figure: what fastlenet.images computes, to the bit.
// Each function has the name of its twin in images/ink.py, shapes.py and choosing.py, where the reasons stand.
// A page is {h, w, pixels}: one byte of gray for each pixel, 255 is paper. A part of it is {top, left, h, w}.

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
