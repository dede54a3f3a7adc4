// Bytes to cells, images to planes, and weights to the cells that products read.
#pragma once

#include <utility>

#include "dot.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

constexpr int kTapBits = 32 / kTaps;

// GCC 12 converts vectors of bytes lane by lane, which takes nine times as long.
inline __attribute__((always_inline)) Sums widened(const std::uint8_t* from) {
#if FASTLENET_INT8_UNIT_EMULATED
  return __builtin_convertvector(load_vector<Bytes>(from), Sums);
#elif FASTLENET_INT8_LANES == 16
  return reinterpret_cast<Sums>(_mm512_maskz_cvtepu8_epi32(0xFFFF, load_vector<__m128i>(from)));
#else
  return reinterpret_cast<Sums>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#endif
}

inline __attribute__((always_inline)) Cell cell_of(const std::uint8_t* const* from, std::int64_t at) {
  Cell cell = 0;
  for (int tap = 0; tap < kTaps; ++tap) cell |= static_cast<Cell>(from[tap][at]) << (kTapBits * tap);
  return cell;
}

void interleave(Cell* to, const std::uint8_t* const* from, std::int64_t vectors, std::int64_t lanes, std::int64_t step,
                std::int64_t to_step) {
  if (step == 1 && to_step == 1) lanes *= vectors, vectors = 1;
  for (std::int64_t vector = 0; vector < vectors; ++vector, to += to_step * lanes) {
    const std::int64_t at = vector * step * lanes;
    std::int64_t lane = 0;
    for (; lane + kLanes <= lanes; lane += kLanes) {
      Sums cells = widened(from[0] + at + lane);
      for (int tap = 1; tap < kTaps; ++tap) cells |= widened(from[tap] + at + lane) << (kTapBits * tap);
      __builtin_memcpy(to + lane, &cells, sizeof cells);
    }
    for (; lane < lanes; ++lane) to[lane] = cell_of(from, at + lane);
  }
}

void group(Cell* to, const std::uint8_t* from, std::int64_t features, std::int64_t lanes) {
  const std::int64_t whole = features / kTaps;
  for (std::int64_t i = 0; i < whole; ++i) {
    const std::uint8_t* sources[kTaps];
    for (int tap = 0; tap < kTaps; ++tap) sources[tap] = from + (i * kTaps + tap) * lanes;
    interleave(to + i * lanes, sources, 1, lanes, 1, 1);
  }
  for (std::int64_t lane = 0; features % kTaps != 0 && lane < lanes; ++lane) {
    Cell cell = 0;
    for (std::int64_t i = whole * kTaps; i < features; ++i) {
      cell |= static_cast<Cell>(from[i * lanes + lane]) << (kTapBits * (i % kTaps));
    }
    to[whole * lanes + lane] = cell;
  }
}

// a[first], b[first], a[first + 1], b[first + 1], ...
template <int first, int... lane>
inline __attribute__((always_inline)) Bytes alternating(Bytes a, Bytes b, std::integer_sequence<int, lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (first + lane / 2 + lane % 2 * kLanes)...);
#else  // GCC has __builtin_shufflevector only since version 12
  return __builtin_shuffle(a, b, Bytes{static_cast<std::uint8_t>(first + lane / 2 + lane % 2 * kLanes)...});
#endif
}

// A square of kLanes images by kLanes features at a time, whose rows are interleaved with those half a square away, as often as
// halving takes: each time the row's number gives one bit to the column's.
void spread(std::uint8_t* planes, const std::uint8_t* images, std::int64_t count, std::int64_t features) {
  std::int64_t first = 0;
  for (; first + kLanes <= features && count == kLanes; first += kLanes) {
    Bytes rows[kLanes], next[kLanes];
    for (int i = 0; i < kLanes; ++i) rows[i] = load_vector<Bytes>(images + i * features + first);
    for (int size = kLanes; size > 1; size /= 2) {
      for (int i = 0; i < kLanes / 2; ++i) {
        const Bytes a = rows[i], b = rows[i + kLanes / 2];
        next[2 * i] = alternating<0>(a, b, std::make_integer_sequence<int, kLanes>{});
        next[2 * i + 1] = alternating<kLanes / 2>(a, b, std::make_integer_sequence<int, kLanes>{});
      }
      for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
    }
    for (int i = 0; i < kLanes; ++i) __builtin_memcpy(planes + (first + i) * kLanes, &rows[i], sizeof(Bytes));
  }
  for (; first < features; ++first) {
    for (int i = 0; i < kLanes; ++i) planes[first * kLanes + i] = i < count ? images[i * features + first] : 0;
  }
}

// --- weights ---

inline Cell weight_cell(const std::int8_t* row, std::int64_t group, std::int64_t depth) {
  Cell cell = 0;
  for (int tap = 0; tap < kTaps; ++tap) {
    const std::int64_t at = group * kTaps + tap;
    const Cell bits = at < depth ? static_cast<Cell>(static_cast<std::int32_t>(row[at])) : 0;
    cell |= (bits & (0xFFFFFFFFu >> (32 - kTapBits))) << (kTapBits * tap);
  }
  return cell;
}

std::int64_t weight_size(std::int64_t outputs, std::int64_t groups) { return outputs * groups; }

std::int64_t weight_of_one_size(std::int64_t outputs, std::int64_t groups) {
  return (outputs + kLanes - 1) / kLanes * kLanes * groups;
}

// [outputs / kColumn][groups][kColumn], filled up with zeros; the last column has as many vectors as are left.
void pack_weight_of_one(Cell* to, const std::int8_t* weight, std::int64_t outputs, std::int64_t depth) {
  const std::int64_t groups = (depth + kTaps - 1) / kTaps;
  for (std::int64_t first = 0; first < outputs; first += kColumn) {
    const std::int64_t end = first + column_vectors(outputs - first) * kLanes;
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t k = first; k < end; ++k) *to++ = k < outputs ? weight_cell(weight + k * depth, group, depth) : 0;
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
