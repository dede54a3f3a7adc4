// The weight gradient through convolution + ReLU + 2x2 max-pooling, for filters whose row does not fill a vector. It takes a
// quarter of the dense multiply-adds. The lanes are images, and each lane selects the pixel of x under its own winner.
//
// For a tap (r, s) the winner's pixel is one of x[r..r+1][s..s+1] under the window. First the column is selected, once for each
// row of pixels; the result serves the tap above and the tap below. Then the row is selected:
//     a[t][s] = winner's column ? x[t][s+1] : x[t][s]        t = r, r + 1
//     sum[r][s] += dy * (winner's row ? a[r+1][s] : a[r][s])
// 3 filter rows of 5 taps take 24 loads, 20 + 15 selections and 15 multiply-adds; the dense sum takes 60 multiply-adds. 15 sums
// + 2 x 5 selected pixels + dy + 1 = 27 of 32 registers.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Without mask registers a selection costs about as much as a multiply-add, which leaves no gain.
constexpr bool kSelects = kRegisters == 32;
constexpr int kSelectRows = 3, kSelectTaps = 5;

// A channel's windows, and the pixel of x under the first tap at the first window.
struct Windows {
  const float* dy;
  const std::int32_t* winners;
  const float* x;
  std::ptrdiff_t line;  // from one row of x to the next
  std::int64_t p, q;
};

// sums[row * pitch + tap][lanes] = the sum over the windows, in order.
template <int rows, int taps>
__attribute__((noinline)) void select_tile(float* sums, std::ptrdiff_t pitch, const Windows& windows) {
  Vector sum[rows][taps] = {};
  const float* dy = windows.dy;
  const std::int32_t* winners = windows.winners;
  for (std::int64_t p = 0; p < windows.p; ++p) {
    const float* x = windows.x + 2 * p * windows.line;
    for (std::int64_t q = 0; q < windows.q; ++q, x += 2 * kLanes, dy += kLanes, winners += kLanes) {
      const IntVector winner = load_int(winners);
      const Mask right = has_bit<1>(winner), below = has_bit<2>(winner);
      const Vector gradient = select(has_bit<4>(winner), Vector{}, load(dy));  // only kDeadWindow has this bit
      Vector above[taps];
      for (int t = 0; t <= rows; ++t) {
        const float* pixels = x + t * windows.line;
        for (int s = 0; s < taps; ++s) {
          const Vector chosen = select(right, load(pixels + (s + 1) * kLanes), load(pixels + s * kLanes));
          if (t > 0) sum[t - 1][s] += gradient * select(below, chosen, above[s]);
          above[s] = chosen;
        }
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < taps; ++j) store(sums + (i * pitch + j) * kLanes, sum[i][j]);
  }
}

using SelectTile = void (*)(float*, std::ptrdiff_t, const Windows&);

template <int... cell>
inline SelectTile select_function(int rows, int taps, std::integer_sequence<int, cell...>) {
  static constexpr SelectTile kFunctions[] = {select_tile<cell / kSelectTaps + 1, cell % kSelectTaps + 1>...};
  return kFunctions[(rows - 1) * kSelectTaps + taps - 1];
}

// sums[k*c*r*s][lanes] of one block.
inline void select_weight_gradient(float* sums, const float* dy, const std::int32_t* winners, const float* x,
                                   const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const std::ptrdiff_t line = (conv.w + 2 * conv.padding.w) * kLanes, plane = (conv.h + 2 * conv.padding.h) * line;
  const std::ptrdiff_t windows = shape.pool.p * shape.pool.q * kLanes;
  for (std::int64_t k = 0; k < conv.k; ++k, dy += windows, winners += windows) {
    for (std::int64_t c = 0; c < conv.c; ++c, sums += conv.r * conv.s * kLanes) {
      for (std::int64_t r = 0; r < conv.r; r += kSelectRows) {
        for (std::int64_t s = 0; s < conv.s; s += kSelectTaps) {
          const int rows = static_cast<int>(at_most(conv.r - r, kSelectRows));
          const int taps = static_cast<int>(at_most(conv.s - s, kSelectTaps));
          select_function(rows, taps, std::make_integer_sequence<int, kSelectRows * kSelectTaps>{})(
              sums + (r * conv.s + s) * kLanes, conv.s,
              {dy, winners, x + c * plane + r * line + s * kLanes, line, shape.pool.p, shape.pool.q});
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
