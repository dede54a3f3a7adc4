/* exp(x) for x <= 0, with a relative error below 5e-7. x = r - n ln 2, where |r| <= ln 2 / 2. */
static inline float fastlenet_exp(float x) {
  float result, power = 0.5f;
  if (!(x > -104.0f)) { /* the result is below the smallest float */
    return 0.0f;
  }
  int32_t n = (int32_t)(0.5f - x * 1.44269504f);
  const float r = x + (float)n * 0.693359375f - (float)n * 2.12194440e-4f;
  result =
      1.0f +
      r * (1.0f + r * (1.0f / 2 + r * (1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r / 720)))));
  for (; n > 0; n >>= 1, power *= power) { /* result * 2^-n */
    if (n & 1) {
      result *= power;
    }
  }
  return result;
}

/* The first output whose tap, a row or column of the window, is inside the image. */
static inline int32_t fastlenet_first(int32_t tap, int32_t stride, int32_t padding) {
  return tap >= padding ? 0 : (padding - tap - 1) / stride + 1;
}

/* The output after the last one whose tap is inside the image. size: of the image. */
static inline int32_t fastlenet_end(int32_t tap, int32_t stride, int32_t padding, int32_t size,
                                    int32_t outputs) {
  const int32_t reach = size + padding - tap;
  const int32_t end = reach <= 0 ? 0 : stride == 1 ? reach : (reach - 1) / stride + 1;
  return end < outputs ? end : outputs;
}
