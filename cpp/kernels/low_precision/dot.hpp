// VDPBF16PS on vectors of 16 sums, by the instruction or in plain C++ with the same bits.
#pragma once

#include "bfloat16.hpp"

#if defined(__AVX512BF16__)
#include "../simd.hpp"
#endif

namespace fastlenet::FASTLENET_UNIT {
namespace {

constexpr int kSums = 16;

#if defined(__AVX512BF16__)

typedef __m512 Sums;
typedef __m512i Pairs;

inline __attribute__((always_inline)) Sums no_sums() { return _mm512_setzero_ps(); }
inline __attribute__((always_inline)) Pairs no_pairs() { return _mm512_setzero_si512(); }
inline __attribute__((always_inline)) Sums load_sums(const float* from) { return _mm512_loadu_ps(from); }
inline __attribute__((always_inline)) void store_sums(float* to, Sums sums) { _mm512_storeu_ps(to, sums); }
inline __attribute__((always_inline)) Sums plus(Sums a, Sums b) { return _mm512_add_ps(a, b); }
inline __attribute__((always_inline)) Pairs load_pairs(const Pair* from) { return _mm512_loadu_si512(from); }
inline __attribute__((always_inline)) Pairs broadcast_pair(const Pair* from) {
  return _mm512_set1_epi32(static_cast<int>(*from));
}

inline __attribute__((always_inline)) Sums dot(Sums sums, Pairs a, Pairs b) {
  return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// 32 numbers as 16 pairs.
inline __attribute__((always_inline)) Pairs round_pairs(const float* from) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + kSums), _mm512_loadu_ps(from)));
}

// Two lines of up to 16 numbers as pairs. The masked forms because GCC 12 warns of an undefined operand in the others.
inline __attribute__((always_inline)) Pairs pair_lines(const float* first, const float* second, std::int64_t count) {
  const __mmask16 some = static_cast<__mmask16>(count >= kSums ? 0xFFFF : (1 << count) - 1);
  const auto rounded = [some](const float* from) {
    return _mm512_maskz_cvtepu16_epi32(0xFFFF,
                                       reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(some, from))));
  };
  const Pairs low = rounded(first);
  return second == nullptr ? low : _mm512_or_si512(low, _mm512_maskz_slli_epi32(0xFFFF, rounded(second), 16));
}

inline void transpose_pairs(Pairs (&rows)[kSums]) {
  Vector vectors[kSums];
  for (int i = 0; i < kSums; ++i) vectors[i] = reinterpret_cast<Vector>(rows[i]);
  transpose(vectors);
  for (int i = 0; i < kSums; ++i) rows[i] = reinterpret_cast<Pairs>(vectors[i]);
}

#else

struct Sums {
  float lane[kSums];
};
struct Pairs {
  Pair lane[kSums];
};

inline Sums no_sums() { return {}; }
inline Pairs no_pairs() { return {}; }

inline Sums load_sums(const float* from) {
  Sums sums;
  for (int i = 0; i < kSums; ++i) sums.lane[i] = from[i];
  return sums;
}

inline void store_sums(float* to, const Sums& sums) {
  for (int i = 0; i < kSums; ++i) to[i] = sums.lane[i];
}

inline Sums plus(const Sums& a, const Sums& b) {
  Sums sums;
  for (int i = 0; i < kSums; ++i) sums.lane[i] = a.lane[i] + b.lane[i];
  return sums;
}

inline Pairs load_pairs(const Pair* from) {
  Pairs pairs;
  for (int i = 0; i < kSums; ++i) pairs.lane[i] = from[i];
  return pairs;
}

inline Pairs broadcast_pair(const Pair* from) {
  Pairs pairs;
  for (int i = 0; i < kSums; ++i) pairs.lane[i] = *from;
  return pairs;
}

inline Sums dot(Sums sums, const Pairs& a, const Pairs& b) {
  for (int i = 0; i < kSums; ++i) sums.lane[i] = emulated_dot(sums.lane[i], a.lane[i], b.lane[i]);
  return sums;
}

inline Pairs round_pairs(const float* from) {
  Pairs pairs;
  for (int i = 0; i < kSums; ++i) {
    pairs.lane[i] = emulated_round(from[2 * i]) | static_cast<Pair>(emulated_round(from[2 * i + 1])) << 16;
  }
  return pairs;
}

inline Pairs pair_lines(const float* first, const float* second, std::int64_t count) {
  float both[2 * kSums] = {};
  for (int j = 0; j < kSums && j < count; ++j) {
    both[2 * j] = first[j];
    both[2 * j + 1] = second != nullptr ? second[j] : 0.0f;
  }
  return round_pairs(both);
}

inline void transpose_pairs(Pairs (&rows)[kSums]) {
  for (int i = 0; i < kSums; ++i) {
    for (int j = 0; j < i; ++j) {
      const Pair kept = rows[i].lane[j];
      rows[i].lane[j] = rows[j].lane[i];
      rows[j].lane[i] = kept;
    }
  }
}

#endif

inline void store_pairs(Pair* to, const Pairs& pairs) { __builtin_memcpy(to, &pairs, sizeof pairs); }

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
