// The displacement field of elastic distortion (Simard et al. 2003): noise, smoothed by a Gaussian along both axes.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// y[rows][line] = sum over k of taps[k - row] * x[k][line]. This smooths along the first axis, with zeros outside it. The taps
// reach to +-radius, and are followed by kTileRows - 1 zeros.
inline void smooth(float* y, const float* x, const float* taps, std::ptrdiff_t radius, std::ptrdiff_t rows,
                   std::ptrdiff_t line) {
  std::ptrdiff_t offset[kTileVectors];
  for (int j = 0; j < kTileVectors; ++j) offset[j] = j * kLanes;
  for (std::ptrdiff_t row = 0; row < rows; row += kTileRows) {
    const int height = static_cast<int>(at_most(rows - row, kTileRows));
    const std::ptrdiff_t begin = row > radius ? row - radius : 0, end = at_most(row + height + radius, rows);
    const Scalars scalars{taps + begin - row, -1, 1};
    for (std::ptrdiff_t column = 0; column < line; column += kTileVectors * kLanes) {
      const int width = static_cast<int>(at_most((line - column) / kLanes, kTileVectors));
      Vector tile[kTileRows][kTileVectors] = {};
      multiply_add(tile, height, width, scalars, {x + begin * line + column, 1, 1, end - begin, 0, 0, line}, offset);
      for (int i = 0; i < height; ++i) {
        for (int j = 0; j < width; ++j) store(y + (row + i) * line + column + j * kLanes, tile[i][j]);
      }
    }
  }
}

// The two fields of the noise side by side: noise[w][2][height], from the low and the high half of each word, read as signed
// numbers. Half a step is added to make their range symmetrical.
inline void make_noise(float* noise, const std::uint32_t* words, std::ptrdiff_t height, const GatherShape& shape) {
  const std::int32_t* word = reinterpret_cast<const std::int32_t*>(words);
  for (std::ptrdiff_t column = 0; column < shape.w; ++column) {
    float* to = noise + column * 2 * height;
    for (std::ptrdiff_t row = 0; row < height; row += kLanes) {
      const IntVector both = load_int(word + column * shape.h + row);
      store(to + row, (__builtin_convertvector((both << 16) >> 16, Vector) + 0.5f) * 0x1p-15f);
      store(to + height + row, (__builtin_convertvector(both >> 16, Vector) + 0.5f) * 0x1p-15f);
    }
  }
}

// Transposes: y[height][2][width] <- x[width][2][height], in whole vectors. Elements beyond the image are in lanes that nobody
// reads.
inline void swap_axes(float* y, const float* x, std::ptrdiff_t height, std::ptrdiff_t width) {
  for (std::ptrdiff_t field = 0; field < 2; ++field) {
    for (std::ptrdiff_t column = 0; column < width; column += kLanes) {
      for (std::ptrdiff_t row = 0; row < height; row += kLanes) {
        Vector block[kLanes];
        for (int i = 0; i < kLanes; ++i) block[i] = load(x + ((column + i) * 2 + field) * height + row);
        transpose(block);
        for (int i = 0; i < kLanes; ++i) store(y + ((row + i) * 2 + field) * width + column, block[i]);
      }
    }
  }
}

// Both passes smooth along the first axis, with the second in the lanes. So the noise is made column by column, and the axes
// are exchanged between the passes.
void elastic_field(float* field, float* room, const std::uint32_t* words, const float* taps, std::int64_t radius,
                   const GatherShape& shape) {
  const std::ptrdiff_t height = whole_vectors(shape.h), width = whole_vectors(shape.w);
  make_noise(room, words, height, shape);
  smooth(field, room, taps, radius, shape.w, 2 * height);
  swap_axes(room, field, height, width);
  smooth(field, room, taps, radius, shape.h, 2 * width);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
