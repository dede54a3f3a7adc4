// The layout of images and gradients in blocks: with a border of zeros, spread apart, or unchanged.
#pragma once

#include "../kernels/workspaces.hpp"
#include "batches.hpp"

namespace fastlenet::cpu {

// Planes without a border.
inline Frame plain_frame(std::int64_t c, std::int64_t h, std::int64_t w) { return {c, h, w, h, w, 0, 0, {1, 1}}; }

inline std::int64_t padded_size(const ConvShape& s) { return s.c * (s.h + 2 * s.padding.h) * (s.w + 2 * s.padding.w); }

inline Frame padded_frame(const ConvShape& s) {
  return {s.c, s.h, s.w, s.h + 2 * s.padding.h, s.w + 2 * s.padding.w, s.padding.h, s.padding.w, {1, 1}};
}

// Handles empty shapes. Without images or output channels it fills all gradients with zeros and returns true: nothing else is
// to be done. Without inputs there is no dx, so it becomes null.
inline bool no_gradients(float*& dx, float* dweight, float* dbias, const ConvShape& s) {
  const std::int64_t inputs = s.c * s.h * s.w;
  if (inputs == 0) dx = nullptr;
  if (s.n > 0 && s.k > 0) return false;
  fill_zeros(dx, s.n * inputs);
  fill_zeros(dweight, s.k * s.c * s.r * s.s);
  fill_zeros(dbias, s.k);
  return true;
}

// dx is a convolution of stride 1 over dy. dy's rows lie `stride` apart in a frame, after r-1-padding rows of zeros. The
// weights are flipped, with c and k exchanged.
struct InputGradient {
  ConvShape shape;
  Frame frame;

  explicit InputGradient(const ConvShape& s)
      : shape{s.n, s.k, s.h + s.r - 1, s.w + s.s - 1, s.c, s.r, s.s, {1, 1}, {0, 0}, s.h, s.w},
        frame{s.k, s.p, s.q, shape.h, shape.w, s.r - 1 - s.padding.h, s.s - 1 - s.padding.w, s.stride} {}
};

}  // namespace fastlenet::cpu
