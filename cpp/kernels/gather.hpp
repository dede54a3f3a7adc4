// Converts one channel of an image from pixels, bytes or floats, to normalised floats: unchanged, shifted by whole pixels, or
// sampled at the places that a map gives.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

void gather_image(float* x, const std::uint8_t* image, const float* table, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) x[i] = table[image[i]];
}

inline std::int64_t clamp(std::int64_t value, std::int64_t most) { return value < 0 ? 0 : value < most ? value : most; }

// Whole shifts: value(pixel of the image) where there is one, else `outside`.
template <typename Pixel, typename Value>
inline void shift_image(float* x, const Pixel* image, float outside, Pair shift, const GatherShape& shape, const Value& value) {
  const std::int64_t begin = clamp(shift.w, shape.w), end = clamp(shape.w + shift.w, shape.w);
  for (std::int64_t i = 0; i < shape.h; ++i, x += shape.w) {
    const std::int64_t row = i - shift.h;
    const bool inside = row >= 0 && row < shape.h && begin < end;
    const std::int64_t from = inside ? begin : shape.w, to = inside ? end : shape.w;
    for (std::int64_t j = 0; j < from; ++j) x[j] = outside;
    for (std::int64_t j = from; j < to; ++j) x[j] = value(image[row * shape.w + j - shift.w]);
    for (std::int64_t j = to; j < shape.w; ++j) x[j] = outside;
  }
}

void gather_shifted(float* x, const std::uint8_t* image, const float* table, Pair shift, const GatherShape& shape) {
  shift_image(x, image, table[0], shift, shape, [=](std::uint8_t pixel) { return table[pixel]; });
}

void gather_floats(float* x, const float* image, double mean, double std, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) x[i] = static_cast<float>((image[i] - mean) / std);
}

void gather_floats_shifted(float* x, const float* image, double mean, double std, Pair shift, const GatherShape& shape) {
  const auto value = [=](float pixel) { return static_cast<float>((pixel - mean) / std); };
  shift_image(x, image, value(0.0f), shift, shape, value);
}

// The image in a border of zeros, as frame[h + 2][pitch]. Element (i, j) holds four pixels, one byte each, from the lowest
// byte: (i - 1, j - 1), (i - 1, j), (i, j - 1), (i, j). So one look-up finds the four pixels of a bilinear sample, and no index
// is out of bounds.
inline void frame_image(std::int32_t* frame, std::int64_t pitch, const std::uint8_t* image, std::int64_t h, std::int64_t w) {
  std::uint8_t* bytes = reinterpret_cast<std::uint8_t*>(frame + (h + 2) * pitch);
  const std::int64_t size = (h + 3) * pitch + kLanes;
  for (std::int64_t i = 0; i < size; i += 4 * kLanes) store(reinterpret_cast<float*>(bytes + i), Vector{});
  for (std::int64_t i = 0; i < h; ++i) {
    for (std::int64_t j = 0; j < w; ++j) bytes[(i + 1) * pitch + j + 1] = image[i * w + j];
  }
  for (std::int64_t i = 0; i < (h + 2) * pitch; i += kLanes) {
    const std::uint8_t *upper = bytes + i, *lower = upper + pitch;
    store(frame + i, load_bytes(upper) | load_bytes(upper + 1) << 8 | load_bytes(lower) << 16 | load_bytes(lower + 1) << 24);
  }
}

// The same for floats: frame[h + 3][pitch] and one more zero, in which element (i, j) is the pixel (i - 1, j - 1). The sample
// at the lower right end reads (h + 2, w + 2), which is the one behind the last row where pitch is w + 2.
inline void frame_image(float* frame, std::int64_t pitch, const float* image, std::int64_t h, std::int64_t w) {
  for (std::int64_t i = 0; i <= (h + 3) * pitch; i += kLanes) store(frame + i, Vector{});
  for (std::int64_t i = 0; i < h; ++i) {
    for (std::int64_t j = 0; j < w; ++j) frame[(i + 1) * pitch + j + 1] = image[i * w + j];
  }
}

// Clamps to 0..most, the places in the frame where a sample is defined; NaN becomes 0.
inline Vector clamp(Vector value, float most) {
  value = value > 0.0f ? value : Vector{};
  return value < most ? value : broadcast(most);
}

// The four pixels that surround a place.
struct Four {
  Vector upper_left, upper_right, lower_left, lower_right;
};

inline Four look_around(const std::int32_t* frame, std::int64_t, IntVector place) {
  const IntVector four = look_up(frame, place);
  return {__builtin_convertvector(four & 255, Vector), __builtin_convertvector((four >> 8) & 255, Vector),
          __builtin_convertvector((four >> 16) & 255, Vector), __builtin_convertvector((four >> 24) & 255, Vector)};
}

inline Four look_around(const float* frame, std::int64_t pitch, IntVector place) {
  const auto at = [=](std::int64_t offset) {
    return reinterpret_cast<Vector>(look_up(reinterpret_cast<const std::int32_t*>(frame) + offset, place));
  };
  return {at(0), at(1), at(pitch), at(pitch + 1)};
}

// The bilinear samples at (row, column) of the frame: the four surrounding pixels, weighted by nearness.
template <typename Element>
inline Vector bilinear(const Element* frame, std::int64_t pitch, Vector row, Vector column) {
  const IntVector top = __builtin_convertvector(row, IntVector), left = __builtin_convertvector(column, IntVector);
  const Vector down = row - __builtin_convertvector(top, Vector), right = column - __builtin_convertvector(left, Vector);
  const Four four = look_around(frame, pitch, top * static_cast<std::int32_t>(pitch) + left);
  const Vector upper = four.upper_left + right * (four.upper_right - four.upper_left);
  const Vector lower = four.lower_left + right * (four.lower_right - four.lower_left);
  return upper + down * (lower - upper);
}

template <bool elastic, typename Element>
inline void gather_warped_as(float* x, const Element* frame, std::int64_t pitch, const Warp& warp, float scale, float shift,
                             const GatherShape& shape) {
  const float* affine = warp.affine;
  const float bottom = static_cast<float>(shape.h + 1), edge = static_cast<float>(shape.w + 1);
  const std::int64_t line = whole_vectors(shape.w);
  Vector lanes;
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = static_cast<float>(lane);
  for (std::int64_t i = 0; i < shape.h; ++i, x += shape.w) {
    // The frame starts one pixel above and left of the image.
    const float row_index = static_cast<float>(i);
    const Vector row_start = broadcast(affine[0] * row_index + (affine[2] + 1.0f));
    const Vector column_start = broadcast(affine[3] * row_index + (affine[5] + 1.0f));
    for (std::int64_t at = 0; at < shape.w; at += kLanes) {
      // The last vector of a row overlaps the one before it, so that it does not pass the end.
      const std::int64_t j = at + kLanes <= shape.w || shape.w < kLanes ? at : shape.w - kLanes;
      const Vector column_index = lanes + static_cast<float>(j);
      Vector row = row_start + affine[1] * column_index, column = column_start + affine[4] * column_index;
      if (elastic) {
        const Vector down = load(warp.field + 2 * i * line + j), right = load(warp.field + (2 * i + 1) * line + j);
        row += warp.bend[0] * down + warp.bend[1] * right;
        column += warp.bend[2] * down + warp.bend[3] * right;
      }
      store_some(x + j, bilinear(frame, pitch, clamp(row, bottom), clamp(column, edge)) * scale + shift, shape.w - j);
    }
  }
}

template <typename Element, typename Pixel>
inline void warp_image(float* x, Element* frame, const Pixel* image, const Warp& warp, float scale, float shift,
                       const GatherShape& shape) {
  const std::int64_t pitch = whole_vectors(shape.w + 2);
  frame_image(frame, pitch, image, shape.h, shape.w);
  if (warp.field == nullptr) {
    gather_warped_as<false>(x, frame, pitch, warp, scale, shift, shape);
  } else {
    gather_warped_as<true>(x, frame, pitch, warp, scale, shift, shape);
  }
}

void gather_warped(float* x, std::int32_t* frame, const std::uint8_t* image, const Warp& warp, float scale, float shift,
                   const GatherShape& shape) {
  warp_image(x, frame, image, warp, scale, shift, shape);
}

void gather_floats_warped(float* x, float* frame, const float* image, const Warp& warp, float scale, float shift,
                          const GatherShape& shape) {
  warp_image(x, frame, image, warp, scale, shift, shape);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
