/*
 * rint(sum * multiplier) + zero_point in 0..255, by products in float32 and ties to even. The bits
 * are the same on every machine: `volatile` rounds to float32 where a compiler computes in more
 * bits, and the rest of the function has no rounding.
 */
static inline uint8_t fastlenet_requantise(int32_t sum, float multiplier, int32_t zero_point) {
  const volatile float factor = (float)sum;
  const volatile float product = factor * multiplier;
  const float x = product, near = x < -256.0f ? -256.0f : x > 256.0f ? 256.0f : x;
  int32_t n = (int32_t)near;
  const float rest = near - (float)n;
  n += (rest > 0.5f) | ((rest == 0.5f) & (n & 1));
  n -= (rest < -0.5f) | ((rest == -0.5f) & (n & 1));
  n += zero_point;
  return (uint8_t)(n < 0 ? 0 : n > 255 ? 255 : n);
}

/* sum * multiplier, rounded to float32 as above. */
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
                                    float multiplier, int32_t zero_point, int32_t *sums,
                                    uint8_t *y) {
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
      *y++ = fastlenet_requantise(sums[q], multiplier, zero_point);
    }
  }
}

/* bias + the sum of weight * x. */
static inline int32_t fastlenet_sum(const uint8_t *x, int32_t inputs, const int8_t *weight,
                                    int32_t bias) {
  for (int32_t c = 0; c < inputs; ++c) {
    bias += weight[c] * x[c];
  }
  return bias;
}

/* A linear layer. weight: outputs x inputs. */
static inline void fastlenet_linear(const uint8_t *x, int32_t inputs, const int8_t *weight,
                                    const int32_t *bias, const float *multiplier,
                                    int32_t zero_point, uint8_t *y, int32_t outputs) {
  for (int32_t k = 0; k < outputs; ++k, weight += inputs) {
    const int32_t sum = fastlenet_sum(x, inputs, weight, bias[k]);
    y[k] = fastlenet_requantise(sum, multiplier[k], zero_point);
  }
}

/* The last linear layer, whose outputs are numbers. */
static inline void fastlenet_last_linear(const uint8_t *x, int32_t inputs, const int8_t *weight,
                                         const int32_t *bias, const float *multiplier, float *y,
                                         int32_t outputs) {
  for (int32_t k = 0; k < outputs; ++k, weight += inputs) {
    y[k] = fastlenet_scaled(fastlenet_sum(x, inputs, weight, bias[k]), multiplier[k]);
  }
}

/* Bytes as the numbers that they stand for. */
static inline void fastlenet_scores(const uint8_t *x, int32_t size, int32_t zero_point, float scale,
                                    float *y) {
  for (int32_t i = 0; i < size; ++i) {
    y[i] = fastlenet_scaled(x[i] - zero_point, scale);
  }
}

/* A function of each byte. */
static inline void fastlenet_look_up(const uint8_t *x, int32_t size, const uint8_t *table,
                                     uint8_t *y) {
  for (int32_t i = 0; i < size; ++i) {
    y[i] = table[x[i]];
  }
}

/* The maximum of each window, in one channel. Padding is never the maximum. */
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

/* The mean of each window, in one channel. The padding counts as zero_point. */
static inline void fastlenet_avg_pool2d(const fastlenet_window *g, const uint8_t *x,
                                        float multiplier, int32_t zero_point, uint8_t *y) {
  for (int32_t p = 0; p < g->out_height; ++p) {
    for (int32_t q = 0; q < g->out_width; ++q) {
      const int32_t top = p * g->row_stride - g->row_padding,
                    left = q * g->column_stride - g->column_padding;
      const int32_t bottom = top + g->rows < g->height ? top + g->rows : g->height;
      const int32_t right = left + g->columns < g->width ? left + g->columns : g->width;
      int32_t sum = 0;
      for (int32_t i = top < 0 ? 0 : top; i < bottom; ++i) {
        for (int32_t j = left < 0 ? 0 : left; j < right; ++j) {
          sum += x[i * g->width + j] - zero_point;
        }
      }
      *y++ = fastlenet_requantise(sum, multiplier, zero_point);
    }
  }
}
