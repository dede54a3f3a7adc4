/*
 * A sum of products as a byte: rint(sum * multiplier) + zero_point, at least `least`, at most 255.
 * The bits are the same on every machine: `volatile` makes a compiler round to float32 twice, even
 * if it computes in more bits, and the rounding to an integer, ties to even, is done in integers.
 */
static inline uint8_t fastlenet_requantise(int32_t sum, float multiplier, int32_t zero_point,
                                           int32_t least) {
  const volatile float factor = (float)sum;
  const volatile float product = factor * multiplier;
  const float x = product;
  const float near = x < -256.0f ? -256.0f : x > 256.0f ? 256.0f : x; /* beyond, the byte is the same */
  int32_t n = (int32_t)near;
  const float rest = near - (float)n;
  n += (rest > 0.5f) | ((rest == 0.5f) & (n & 1));
  n -= (rest < -0.5f) | ((rest == -0.5f) & (n & 1));
  n += zero_point;
  return (uint8_t)(n < least ? least : n > 255 ? 255 : n);
}

/* A sum of products as a number: sum * multiplier, rounded to float32 twice. */
static inline float fastlenet_scaled(int32_t sum, float multiplier) {
  const volatile float factor = (float)sum;
  const volatile float product = factor * multiplier;
  return product;
}

/*
 * One channel of a convolution's output: bias + the sum of weight * (x - around) over the part of
 * each output's window that is inside the image, as bytes. around: the bytes that stand for the
 * padding of each input channel, which bias has already. sums: room for a row.
 */
static inline void fastlenet_conv2d(const fastlenet_window *window, const uint8_t *x,
                                    const uint8_t *around, const int8_t *weight, int32_t bias,
                                    float multiplier, int32_t zero_point, int32_t least,
                                    int32_t *sums, uint8_t *y) {
  const fastlenet_window g = *window; /* a copy, which no store to sums can change */
  for (int32_t p = 0; p < g.out_height; ++p) {
    for (int32_t q = 0; q < g.out_width; ++q) {
      sums[q] = bias;
    }
    for (int32_t c = 0; c < g.channels; ++c) {
      for (int32_t r = 0; r < g.rows; ++r) {
        const int32_t i = p * g.row_stride + r - g.row_padding;
        for (int32_t s = 0; s < g.columns && i >= 0 && i < g.height; ++s) {
          const int32_t w = weight[(c * g.rows + r) * g.columns + s];
          const int32_t at = (c * g.height + i) * g.width + s - g.column_padding;
          const int32_t right =
              fastlenet_end(s, g.column_stride, g.column_padding, g.width, g.out_width);
          for (int32_t q = fastlenet_first(s, g.column_stride, g.column_padding); q < right; ++q) {
            sums[q] += w * (x[at + q * g.column_stride] - around[c]);
          }
        }
      }
    }
    for (int32_t q = 0; q < g.out_width; ++q) {
      *y++ = fastlenet_requantise(sums[q], multiplier, zero_point, least);
    }
  }
}

/* bias + the sum of weight * x. */
static inline int32_t fastlenet_dot(const uint8_t *x, const int8_t *weight, int32_t size,
                                    int32_t bias) {
  int32_t sum = bias;
  for (int32_t i = 0; i < size; ++i) {
    sum += weight[i] * x[i];
  }
  return sum;
}

/* The maximum of each window, in one channel. The padding never wins. */
static inline void fastlenet_max_pool2d(const fastlenet_window *g, const uint8_t *x, uint8_t *y) {
  for (int32_t p = 0; p < g->out_height; ++p) {
    for (int32_t q = 0; q < g->out_width; ++q) {
      const int32_t top = p * g->row_stride - g->row_padding,
                    left = q * g->column_stride - g->column_padding;
      const int32_t bottom = top + g->rows < g->height ? top + g->rows : g->height;
      const int32_t right = left + g->columns < g->width ? left + g->columns : g->width;
      uint8_t most = 0;
      for (int32_t i = top < 0 ? 0 : top; i < bottom; ++i) {
        for (int32_t j = left < 0 ? 0 : left; j < right; ++j) {
          most = x[i * g->width + j] > most ? x[i * g->width + j] : most;
        }
      }
      *y++ = most;
    }
  }
}
