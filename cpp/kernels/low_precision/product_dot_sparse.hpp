// The product by VDPBF16PS where the factor a is mostly zeros, as after ReLU: pairs of two zeros are left out. The bits are
// those of the dense product, if b is finite: what is left out would add zeros, and a sum of -0 becomes +0 in both. So which of
// the two is computed depends on speed alone.
//
// The dense product loads 4 vectors and broadcasts 6 pairs for 24 dot products. Here each loads its own vector, so it is bound
// by loads, one a cycle on Zen 4, and needs b in the first-level cache: 64 steps of 8 vectors are its 32 KiB. Eight sums hide
// most of the latency, six cycles. The pairs that are alive are bits of one word, so 64 steps are also the most. With fewer,
// the loop over the bits ends more often, each time in a mispredicted branch.
#pragma once

#include "dot.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

#if defined(__AVX512BF16__)

constexpr std::int64_t kSparseSteps = 64, kSparseColumns = 2 * kPanelColumns;
constexpr int kSparseVectors = static_cast<int>(kSparseColumns) / kSums;

inline __mmask16 living(Pairs pairs) { return _mm512_test_epi32_mask(pairs, _mm512_set1_epi32(0x7FFF7FFF)); }

// Whether at most 5 of 8 pairs are to be multiplied, in every fourth row.
inline bool mostly_zeros(const LowPrecisionProduct& product, Range rows) {
  const std::int64_t pitch = product.steps();
  std::int64_t alive = 0, all = 0;
  for (std::int64_t row = rows.begin; row < rows.end; row += 4) {
    for (std::int64_t step = 0; step < pitch; step += kSums) {
      alive += __builtin_popcount(living(load_pairs(product.a + row * pitch + step)));
    }
    all += (product.depth + 1) / 2;
  }
  return 8 * alive <= 5 * all;
}

inline bool all_finite(const Pair* b, std::int64_t count) {
  const __m512i exponents = _mm512_set1_epi32(0x7F807F80);
  __mmask32 odd = 0;
  for (std::int64_t i = 0; i < count; i += kSums) {
    odd |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(load_pairs(b + i), exponents), exponents);
  }
  return odd == 0;
}

// Adds the steps in `steps` to the columns from `column` on, of which `vectors` vectors are there, the last perhaps not full.
template <int vectors>
__attribute__((noinline)) void add_living(const LowPrecisionProduct& product, Range rows, std::int64_t column, Range steps) {
  const std::int64_t pitch = product.steps();
  const std::int64_t next_panel = pitch * kPanelColumns;
  const Pair* b = product.b + column / kPanelColumns * next_panel;
  const bool ends = steps.end * 2 >= product.depth;
  const std::int64_t last = product.columns - column - (vectors - 1) * kSums;
  const auto some = [last](int j) { return j < vectors - 1 ? kSums : last; };
  Vector bias[vectors];
  for (int j = 0; j < vectors; ++j) {
    bias[j] = (product.bias != nullptr ? load_some(product.bias + column + j * kSums, some(j)) : Vector{}) + Vector{};
  }
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const Pair* a = product.a + row * pitch;
    std::uint64_t alive = 0;  // a bit for each of the steps
    for (std::int64_t step = steps.begin; step < steps.end; step += kSums) {
      alive |= static_cast<std::uint64_t>(living(load_pairs(a + step))) << (step - steps.begin);
    }
    float* to = product.c + row * product.columns + column;
    Sums sums[vectors];
    for (int j = 0; j < vectors; ++j) {
      sums[j] = steps.begin == 0 ? no_sums() : reinterpret_cast<Sums>(load_some(to + j * kSums, some(j)));
    }
    for (; alive != 0; alive &= alive - 1) {
      const std::int64_t step = steps.begin + __builtin_ctzll(alive);
      const Pairs left = broadcast_pair(a + step);
      const Pair* right = b + step * kPanelColumns;
      for (int j = 0; j < vectors; ++j) {
        const Pair* at = right + (j < kSparseVectors / 2 ? 0 : next_panel) + j % (kSparseVectors / 2) * kSums;
        sums[j] = dot(sums[j], load_pairs(at), left);
      }
    }
    for (int j = 0; j < vectors; ++j) {
      const Vector total = ends ? reinterpret_cast<Vector>(sums[j]) + bias[j] : reinterpret_cast<Vector>(sums[j]);
      store_some(to + j * kSums, total, some(j));
    }
  }
}

using AddLiving = void (*)(const LowPrecisionProduct&, Range, std::int64_t, Range);

template <int... vector>
inline AddLiving add_living_of(int vectors, std::integer_sequence<int, vector...>) {
  static constexpr AddLiving kFunctions[] = {add_living<vector + 1>...};
  return kFunctions[vectors - 1];
}

// Two panels at most. Returns false, without computing, if that does not pay or b is not finite.
inline bool multiply_living(const LowPrecisionProduct& product, Range rows, Range panels) {
  const std::int64_t pitch = product.steps(), column = panels.begin * kPanelColumns;
  if (rows.end - rows.begin < 8 || product.depth == 0 || !mostly_zeros(product, rows)) return false;
  if (!all_finite(product.b + column * pitch, (panels.end - panels.begin) * kPanelColumns * pitch)) return false;
  const std::int64_t width = (panels.end - panels.begin) * kPanelColumns, left = product.columns - column;
  const int vectors = static_cast<int>(((left < width ? left : width) + kSums - 1) / kSums);
  const AddLiving add = add_living_of(vectors, std::make_integer_sequence<int, kSparseVectors>{});
  for (std::int64_t step = 0; 2 * step < product.depth; step += kSparseSteps) {
    add(product, rows, column, {step, step + kSparseSteps < pitch ? step + kSparseSteps : pitch});
  }
  return true;
}

#else

inline bool multiply_living(const LowPrecisionProduct&, Range, Range) { return false; }

#endif

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
