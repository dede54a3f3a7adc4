// Blocks of 16 images, one in each lane, and the winners of pooling windows in them.
#pragma once

#include "dot.hpp"
#include "table.hpp"

#if defined(__AVX512BF16__)
#include "../lanes.hpp"
#endif

namespace fastlenet::FASTLENET_UNIT {
namespace {

#if defined(__AVX512BF16__)

inline __attribute__((always_inline)) Sums broadcast_sum(float value) { return _mm512_set1_ps(value); }
inline __attribute__((always_inline)) Pairs first_halves(Pairs pairs) {
  return _mm512_and_si512(pairs, _mm512_set1_epi32(0xFFFF));
}

// The largest sum of a window so far, and its position; none at first.
struct Best {
  Vector value = {};
  IntVector winner = broadcast_int(-1);
};

inline __attribute__((always_inline)) void keep_best(Best& best, Sums sums, std::int32_t position) {
  const Vector value = reinterpret_cast<Vector>(sums);
  if (position == 0) {
    best.value = value;
    best.winner = IntVector{};
  } else {
    const Mask better = beats(value, best.value);
    best.value = select(better, value, best.value);
    best.winner = select(better, broadcast_int(position), best.winner);
  }
}

inline __attribute__((always_inline)) void store_best(float* y, std::int32_t* winners, const Best& best) {
  const Mask dead = not_positive(best.value);
  store(y, select(dead, Vector{}, best.value));
  store(winners, select(dead, broadcast_int(kDeadWindow), best.winner));
}

#else

inline Sums broadcast_sum(float value) {
  Sums sums;
  for (int i = 0; i < kSums; ++i) sums.lane[i] = value;
  return sums;
}

inline Pairs first_halves(Pairs pairs) {
  for (Pair& pair : pairs.lane) pair &= 0xFFFF;
  return pairs;
}

struct Best {
  float value[kSums] = {};
  std::int32_t winner[kSums] = {};
};

// The first NaN wins, else the first of the largest.
inline void keep_best(Best& best, const Sums& sums, std::int32_t position) {
  for (int i = 0; i < kSums; ++i) {
    const float value = sums.lane[i];
    if (position != 0 && (best.value[i] != best.value[i] || value <= best.value[i])) continue;
    best.value[i] = value;
    best.winner[i] = position;
  }
}

inline void store_best(float* y, std::int32_t* winners, const Best& best) {
  for (int i = 0; i < kSums; ++i) {
    const bool dead = best.value[i] <= 0.0f;
    y[i] = dead ? 0.0f : best.value[i];
    winners[i] = dead ? kDeadWindow : best.winner[i];
  }
}

void interleave(float* block, const float* x, std::int64_t count, const Frame& frame) {
  const std::int64_t size = frame.c * frame.frame_h * frame.frame_w;
  for (std::int64_t i = 0; i < size * kSums; ++i) block[i] = 0.0f;
  for (std::int64_t image = 0; image < count; ++image) {
    for (std::int64_t line = 0; line < frame.c * frame.h; ++line) {
      const std::int64_t row = line / frame.h * frame.frame_h + line % frame.h * frame.stride.h + frame.top;
      for (std::int64_t column = 0; column < frame.w; ++column) {
        const std::int64_t to = row * frame.frame_w + column * frame.stride.w + frame.left;
        block[to * kSums + image] = x[(image * frame.c * frame.h + line) * frame.w + column];
      }
    }
  }
}

void deinterleave(float* y, const float* block, std::int64_t count, std::int64_t size) {
  for (std::int64_t i = 0; i < count * size; ++i) y[i] = block[i % size * kSums + i / size];
}

void deinterleave_bytes(std::uint8_t* y, const std::int32_t* block, std::int64_t count, std::int64_t size) {
  for (std::int64_t i = 0; i < count * size; ++i) y[i] = static_cast<std::uint8_t>(block[i % size * kSums + i / size]);
}

#endif

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
