// One image of a batch, from uint8 pixels to normalised floats.
#pragma once

#include "../kernels.hpp"
#include "simd.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

void gather_image(float* x, const std::uint8_t* image, const float* table, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) x[i] = table[image[i]];
}

// A pixel, or zero outside the image.
inline float pixel(const std::uint8_t* image, std::int64_t row, std::int64_t column, const GatherShape& shape) {
  const bool inside = row >= 0 && row < shape.h && column >= 0 && column < shape.w;
  return inside ? static_cast<float>(image[row * shape.w + column]) : 0.0f;
}

// The four pixels around a point, weighted by nearness.
inline float bilinear(const std::uint8_t* image, float row, float column, const GatherShape& shape) {
  // Beyond one pixel outside nothing is seen. The test is also false for NaN, and keeps the casts below defined.
  if (!(row > -1.0f && row < static_cast<float>(shape.h) && column > -1.0f && column < static_cast<float>(shape.w))) {
    return 0.0f;
  }
  const float top = __builtin_floorf(row), left = __builtin_floorf(column);
  const float down = row - top, right = column - left;
  const std::int64_t i = static_cast<std::int64_t>(top), j = static_cast<std::int64_t>(left);
  const float upper = pixel(image, i, j, shape) * (1.0f - right) + pixel(image, i, j + 1, shape) * right;
  const float lower = pixel(image, i + 1, j, shape) * (1.0f - right) + pixel(image, i + 1, j + 1, shape) * right;
  return upper * (1.0f - down) + lower * down;
}

void gather_transformed(float* x, const std::uint8_t* image, const float* transform, float scale, float shift,
                        const GatherShape& shape) {
  for (std::int64_t i = 0; i < shape.h; ++i) {
    for (std::int64_t j = 0; j < shape.w; ++j) {
      const float row_index = static_cast<float>(i), column_index = static_cast<float>(j);
      const float row = transform[0] * row_index + transform[1] * column_index + transform[2];
      const float column = transform[3] * row_index + transform[4] * column_index + transform[5];
      *x++ = bilinear(image, row, column, shape) * scale + shift;
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
