/* Pixels of 0..255 as normalised numbers, (pixel / 255 - mean) / std. pixels: in a channel. */
static inline void fastlenet_normalise(const uint8_t *image, int32_t pixels, float *y) {
  for (int32_t c = 0; c < FASTLENET_CHANNELS; ++c) {
    for (int32_t i = 0; i < pixels; ++i) {
      *y++ = (float)*image++ * fastlenet_scale[c] - fastlenet_shift[c];
    }
  }
}

/* One channel of a convolution's output: bias + the sum of weight * x over the window of each
 * output. */
static inline void fastlenet_conv2d(const fastlenet_window *g, const float *x, const float *weight,
                                    float bias, float *y) {
  for (int32_t i = 0; i < g->out_height * g->out_width; ++i) {
    y[i] = bias;
  }
  for (int32_t c = 0; c < g->channels; ++c, x += g->height * g->width) {
    for (int32_t r = 0; r < g->rows; ++r) {
      const int32_t top = fastlenet_first(r, g->row_stride, g->row_padding);
      const int32_t bottom =
          fastlenet_end(r, g->row_stride, g->row_padding, g->height, g->out_height);
      for (int32_t s = 0; s < g->columns; ++s) {
        const int32_t left = fastlenet_first(s, g->column_stride, g->column_padding);
        const int32_t right =
            fastlenet_end(s, g->column_stride, g->column_padding, g->width, g->out_width);
        const float w = *weight++;
        for (int32_t p = top; p < bottom; ++p) {
          const int32_t row =
              (p * g->row_stride + r - g->row_padding) * g->width + s - g->column_padding;
          for (int32_t q = left; q < right; ++q) {
            y[p * g->out_width + q] += w * x[row + q * g->column_stride];
          }
        }
      }
    }
  }
}

/* The maximum of each window, in one channel. Padding is never the maximum. */
static inline void fastlenet_max_pool2d(const fastlenet_window *g, const float *x, float *y) {
  for (int32_t p = 0; p < g->out_height; ++p) {
    for (int32_t q = 0; q < g->out_width; ++q) {
      const int32_t top = p * g->row_stride - g->row_padding,
                    left = q * g->column_stride - g->column_padding;
      const int32_t bottom = top + g->rows < g->height ? top + g->rows : g->height;
      const int32_t right = left + g->columns < g->width ? left + g->columns : g->width;
      float most = x[(bottom - 1) * g->width + right - 1];
      for (int32_t i = top < 0 ? 0 : top; i < bottom; ++i) {
        for (int32_t j = left < 0 ? 0 : left; j < right; ++j) {
          most = x[i * g->width + j] > most ? x[i * g->width + j] : most;
        }
      }
      *y++ = most;
    }
  }
}

/* The mean of each window, in one channel. The padding counts as zeros. */
static inline void fastlenet_avg_pool2d(const fastlenet_window *g, const float *x, float *y) {
  for (int32_t p = 0; p < g->out_height; ++p) {
    for (int32_t q = 0; q < g->out_width; ++q) {
      const int32_t top = p * g->row_stride - g->row_padding,
                    left = q * g->column_stride - g->column_padding;
      const int32_t bottom = top + g->rows < g->height ? top + g->rows : g->height;
      const int32_t right = left + g->columns < g->width ? left + g->columns : g->width;
      float sum = 0.0f;
      for (int32_t i = top < 0 ? 0 : top; i < bottom; ++i) {
        for (int32_t j = left < 0 ? 0 : left; j < right; ++j) {
          sum += x[i * g->width + j];
        }
      }
      *y++ = sum / ((float)g->rows * (float)g->columns);
    }
  }
}

/* y = bias + the sum of x[c] * weight[c][k]. weight: inputs x outputs. */
static inline void fastlenet_linear(const float *x, int32_t inputs, const float *weight,
                                    const float *bias, float *y, int32_t outputs) {
  for (int32_t k = 0; k < outputs; ++k) {
    y[k] = bias[k];
  }
  for (int32_t c = 0; c < inputs; ++c, weight += outputs) {
    const float value = x[c];
    if (value != 0.0f) { /* after a ReLU many are 0 */
      for (int32_t k = 0; k < outputs; ++k) {
        y[k] += value * weight[k];
      }
    }
  }
}

static inline void fastlenet_relu(float *y, int32_t size) {
  for (int32_t i = 0; i < size; ++i) {
    y[i] = y[i] > 0.0f ? y[i] : 0.0f;
  }
}

static inline void fastlenet_leaky_relu(float *y, int32_t size, float slope) {
  for (int32_t i = 0; i < size; ++i) {
    y[i] = y[i] > 0.0f ? y[i] : slope * y[i];
  }
}

/* 1 / (1 + exp(-y)) */
static inline void fastlenet_sigmoid(float *y, int32_t size) {
  for (int32_t i = 0; i < size; ++i) {
    const float e = fastlenet_exp(y[i] < 0.0f ? y[i] : -y[i]);
    y[i] = (y[i] < 0.0f ? e : 1.0f) / (1.0f + e);
  }
}

/* tanh(y): by its power series near 0, where the quotient of exponentials would cancel. */
static inline void fastlenet_tanh(float *y, int32_t size) {
  for (int32_t i = 0; i < size; ++i) {
    const float x = y[i] < 0.0f ? -y[i] : y[i];
    const float e = fastlenet_exp(-2.0f * x), square = x * x;
    const float near =
        x * (1.0f - square * (1.0f / 3 - square * (2.0f / 15 - square * (17.0f / 315))));
    const float magnitude = x < 0.15f ? near : (1.0f - e) / (1.0f + e);
    y[i] = y[i] < 0.0f ? -magnitude : magnitude;
  }
}
