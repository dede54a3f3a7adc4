// The quantized network in whole numbers: the same bits as fastlenet.quantization.QuantizedModel.
// Every activation is a byte. A layer's sums are 32-bit integers, and `requantized` makes bytes of them.
// Letters: c in-channels, k out-channels, h w input, p q output, r s filter.

const ROWS = 4; // of weights that are multiplied at a time

/**
 * The layers with their arrays, ready to run. Their fields have the names of fastlenet.quantization's.
 * layers: as the file describes them, an array as {type, shape, offset}; text: the arrays' bytes in base64.
 */
function prepared(layers, text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const kinds = {int8: Int8Array, uint8: Uint8Array, int32: Int32Array, float32: Float32Array};
  return layers.map((layer) => {
    const ready = {...layer};
    for (const [name, {type, shape, offset}] of Object.entries(layer.arrays)) {
      ready[name] = new kinds[type](bytes.buffer, offset, shape.reduce((size, count) => size * count, 1));
    }
    return ready.weight ? inBlocks(ready, layer.arrays.weight.shape) : ready;
  });
}

/** A layer with its weights as [block of ROWS rows][column][row of the block], and memory for a pass. */
function inBlocks(layer, [rows, ...sizes]) {
  const depth = layer.weight.length / rows, blocks = Math.ceil(rows / ROWS);
  const n = layer.kind === "Conv2d" ? layer.output_shape[1] * layer.output_shape[2] : 1;
  const weight = new Int8Array(blocks * ROWS * depth), bias = new Int32Array(blocks * ROWS);
  bias.set(layer.bias);
  layer.weight.forEach((value, index) => {
    const row = Math.floor(index / depth), block = Math.floor(row / ROWS);
    weight[(block * depth + (index % depth)) * ROWS + (row % ROWS)] = value;
  });
  const room = {sums: new Int32Array(blocks * ROWS * n), columns: new Uint8Array(n * depth)};
  const nonzero = {places: new Int32Array(depth), values: new Int32Array(depth)};
  return {...layer, ...room, ...nonzero, weight, bias, rows, depth, n, kernel_size: sizes.slice(1)};
}

/**
 * sums[row, column] = bias[row] + weight[row, :] . columns[column, :], ROWS rows at a time.
 * Black pixels, and after ReLU more than half of all bytes, are zero: they are left out.
 */
function multiply(layer, columns) {
  const {weight, bias, sums, places, values, rows, depth, n} = layer;
  for (let column = 0; column < n; column++) {
    let count = 0;
    for (let i = 0; i < depth; i++) {
      const value = columns[column * depth + i];
      if (value === 0) continue;
      places[count] = ROWS * i;
      values[count++] = value;
    }
    for (let row = 0; row < rows; row += ROWS) {
      let s0 = bias[row], s1 = bias[row + 1], s2 = bias[row + 2], s3 = bias[row + 3];
      for (let i = 0; i < count; i++) {
        const at = row * depth + places[i], x = values[i];
        s0 = (s0 + Math.imul(weight[at], x)) | 0;
        s1 = (s1 + Math.imul(weight[at + 1], x)) | 0;
        s2 = (s2 + Math.imul(weight[at + 2], x)) | 0;
        s3 = (s3 + Math.imul(weight[at + 3], x)) | 0;
      }
      const to = row * n + column;
      sums[to] = s0;
      sums[to + n] = s1;
      sums[to + 2 * n] = s2;
      sums[to + 3 * n] = s3;
    }
  }
}

/** The windows of an image as rows of `columns`: what the filters cover at each place. */
function gather(layer, x) {
  const [c, h, w] = layer.input_shape, [, p, q] = layer.output_shape, [r, s] = layer.kernel_size;
  const [down, across] = layer.stride, [rows, columns] = layer.padding, {padding_value: outside} = layer;
  let to = 0;
  for (let i = 0; i < p; i++) {
    for (let j = 0; j < q; j++) {
      const top = i * down - rows, left = j * across - columns;
      for (let channel = 0; channel < c; channel++) {
        for (let y = top; y < top + r; y++) {
          const row = (channel * h + y) * w, inside = y >= 0 && y < h;
          for (let z = left; z < left + s; z++) {
            layer.columns[to++] = inside && z >= 0 && z < w ? x[row + z] : outside[channel];
          }
        }
      }
    }
  }
}

/** clip(rint(float32(sum) * multiplier) + zero point, 0, 255), the product in float32, with ties to even. */
function requantized(sum, multiplier, zeroPoint) {
  const value = rint(float32(float32(sum) * multiplier)) + zeroPoint;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** The sums as bytes, or as scores in float32 where the layer has no zero point. */
function finished(layer) {
  const {sums, rows, n, multiplier, zero_point: zeroPoint} = layer;
  if (zeroPoint === null) return Float32Array.from(multiplier, (factor, row) => float32(sums[row]) * factor);
  const y = new Uint8Array(rows * n);
  for (let row = 0, i = 0; row < rows; row++) {
    for (const end = i + n; i < end; i++) y[i] = requantized(sums[i], multiplier[row], zeroPoint);
  }
  return y;
}

/** For each channel and window, `reduce` of the largest byte in it, of the sum and the number of its bytes, and the channel. */
function pooled(layer, x, reduce) {
  const [c, h, w] = layer.input_shape, [, p, q] = layer.output_shape, [r, s] = layer.kernel_size;
  const [down, across] = layer.stride, [rows, columns] = layer.padding, y = new Uint8Array(c * p * q);
  for (let channel = 0, to = 0; channel < c; channel++) {
    for (let i = 0; i < p; i++) {
      for (let j = 0; j < q; j++, to++) {
        const top = Math.max(0, i * down - rows), bottom = Math.min(h, i * down - rows + r);
        const left = Math.max(0, j * across - columns), right = Math.min(w, j * across - columns + s);
        let most = 0, sum = 0;
        for (let row = top; row < bottom; row++) {
          for (let column = left; column < right; column++) {
            const value = x[(channel * h + row) * w + column];
            sum += value;
            if (value > most) most = value;
          }
        }
        y[to] = reduce(most, sum, Math.max(0, bottom - top) * Math.max(0, right - left), channel);
      }
    }
  }
  return y;
}

const RUN = {
  Conv2d(layer, x) {
    gather(layer, x);
    multiply(layer, layer.columns);
    return finished(layer);
  },
  Linear(layer, x) {
    multiply(layer, x);
    return finished(layer);
  },
  MaxPool2d: (layer, x) => pooled(layer, x, (most) => most),
  AvgPool2d: (layer, x) => {
    const {multiplier, zero_point: zeros} = layer;
    const mean = (most, sum, count, channel) => requantized(sum - count * zeros[channel], multiplier, zeros[channel]);
    return pooled(layer, x, mean);
  },
  Table: (layer, x) => x.map((value) => layer.table[value]),
  Flatten: (layer, x) => x,
  Scores: (layer, x) => Float32Array.from(x, (value) => (value - layer.zero_point) * layer.scale),
};

/** The activations of every layer for one image of bytes (c, h, w); the last ones are the logits. */
function activations(layers, image) {
  let x = image;
  return layers.map((layer) => (x = RUN[layer.kind](layer, x)));
}

function softmax(logits) {
  const most = Math.max(...logits), powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}
