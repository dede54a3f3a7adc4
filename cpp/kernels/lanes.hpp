// Copies between the caller's planes and the blocks that the kernels compute on.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// block[i][lane] = x[lane * pitch + i] for i < size. The rows of the block are `spread` floats apart.
inline void interleave_row(float* block, std::int64_t spread, const float* x, std::int64_t pitch, std::int64_t count,
                           std::int64_t size) {
  std::int64_t i = 0;
  if (count == kLanes) {
    for (; i + kLanes <= size; i += kLanes) {
      Vector rows[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) rows[lane] = load(x + lane * pitch + i);
      transpose(rows);
      for (int lane = 0; lane < kLanes; ++lane) store(block + (i + lane) * spread, rows[lane]);
    }
  }
  for (; i < size; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) block[i * spread + lane] = lane < count ? x[lane * pitch + i] : 0.0f;
  }
}

[[maybe_unused]] void interleave_bytes(std::int32_t* block, const std::uint8_t* x, std::int64_t count, std::int64_t size) {
  std::int64_t i = 0;
  if (count == kLanes) {
    for (; i + kLanes <= size; i += kLanes) {
      Vector rows[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) rows[lane] = reinterpret_cast<Vector>(load_bytes(x + lane * size + i));
      transpose(rows);
      for (int lane = 0; lane < kLanes; ++lane) store(block + (i + lane) * kLanes, reinterpret_cast<IntVector>(rows[lane]));
    }
  }
  for (; i < size; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) block[i * kLanes + lane] = lane < count ? x[lane * size + i] : 0;
  }
}

// The range of i in 0..size-1 with 0 <= i*stride + offset < frame.
inline Range visible(std::int64_t size, std::int64_t stride, std::int64_t offset, std::int64_t frame) {
  const std::int64_t begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
  const std::int64_t end = frame > offset ? (frame - offset + stride - 1) / stride : 0;
  return {begin, end < size ? end : size};
}

void interleave(float* block, const float* x, std::int64_t count, const Frame& frame) {
  const std::int64_t pitch = frame.c * frame.h * frame.w;
  const std::int64_t frame_size = frame.c * frame.frame_h * frame.frame_w;
  if (frame_size == pitch && frame.h == frame.frame_h && frame.top == 0 && frame.left == 0) {
    interleave_row(block, kLanes, x, pitch, count, pitch);
    return;
  }
  for (std::int64_t i = 0; i < frame_size; ++i) store(block + i * kLanes, Vector{});
  const Range rows = visible(frame.h, frame.stride.h, frame.top, frame.frame_h);
  const Range columns = visible(frame.w, frame.stride.w, frame.left, frame.frame_w);
  if (columns.begin >= columns.end) return;
  for (std::int64_t c = 0; c < frame.c; ++c) {
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      const std::int64_t line = c * frame.frame_h + row * frame.stride.h + frame.top;
      const std::int64_t column = columns.begin * frame.stride.w + frame.left;
      interleave_row(block + (line * frame.frame_w + column) * kLanes, frame.stride.w * kLanes,
                     x + (c * frame.h + row) * frame.w + columns.begin, pitch, count, columns.end - columns.begin);
    }
  }
}

inline void store_transposed(float* to, Vector value) { store(to, value); }
inline void store_transposed(std::uint8_t* to, Vector value) { store(to, reinterpret_cast<IntVector>(value)); }

// Element is float or std::uint8_t. The block holds floats or 32-bit integers; the transposition is the same for both.
template <typename Element, typename Source>
inline void deinterleave_block(Element* y, const Source* block, std::int64_t count, std::int64_t size) {
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Vector rows[kLanes];
    for (int j = 0; j < kLanes; ++j) rows[j] = load(reinterpret_cast<const float*>(block) + (i + j) * kLanes);
    transpose(rows);
    for (int lane = 0; lane < count; ++lane) store_transposed(y + lane * size + i, rows[lane]);
  }
  for (; i < size; ++i) {
    for (int lane = 0; lane < count; ++lane) y[lane * size + i] = static_cast<Element>(block[i * kLanes + lane]);
  }
}

void deinterleave(float* y, const float* block, std::int64_t count, std::int64_t size) {
  deinterleave_block(y, block, count, size);
}

void deinterleave_bytes(std::uint8_t* y, const std::int32_t* block, std::int64_t count, std::int64_t size) {
  deinterleave_block(y, block, count, size);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
