// Vectors of int32 sums, and the one instruction that differs between the units: a dot product of cells, added to sums.
#pragma once

#include <cstdint>

#include "table.hpp"

#if defined(__x86_64__) && !FASTLENET_INT8_UNIT_EMULATED
#include <immintrin.h>
#endif

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

constexpr int kLanes = FASTLENET_INT8_LANES, kTaps = FASTLENET_INT8_TAPS;
// Of a row of filters, sums of 4 places. 32 registers: 5 x 4 sums, 4 cells, 1 weight. 16 registers: 3 x 4, 3 weights, 1 cell.
constexpr int kFilters = kLanes == 16 ? 5 : kTaps == 4 ? 3 : 2, kPlaces = 4;
// Of one image, vectors of filters. 32 registers: 4 places x 4 + 4 weights + 1 cell; 16 registers: 4 x 2 + 2 + 1.
constexpr int kVectors = kLanes == 16 ? 4 : 2;
constexpr std::int64_t kColumn = kVectors * kLanes;  // filters

// Of the filters that are left, how many vectors the next column has.
inline std::int64_t column_vectors(std::int64_t left) { return left < kColumn ? (left + kLanes - 1) / kLanes : kVectors; }

typedef std::int32_t Sums __attribute__((vector_size(4 * kLanes)));
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));

template <typename Vector>
inline __attribute__((always_inline)) Vector load_vector(const void* from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

inline __attribute__((always_inline)) Sums broadcast(std::int32_t value) { return value - Sums{}; }
inline __attribute__((always_inline)) Floats broadcast(float value) { return value - Floats{}; }
inline __attribute__((always_inline)) Sums broadcast(const Cell* cell) { return broadcast(static_cast<std::int32_t>(*cell)); }
inline __attribute__((always_inline)) Sums larger(Sums a, Sums b) { return a > b ? a : b; }

// The vector, which the compiler may not load again for each of its uses: AVX2's loads would bound the kernel.
inline __attribute__((always_inline)) Sums in_register(Sums x) {
#if !FASTLENET_INT8_UNIT_EMULATED
  asm("" : "+v"(x));
#endif
  return x;
}

// sums + the products of each lane's taps. x: unsigned; w: signed.
#if !FASTLENET_INT8_UNIT_EMULATED && FASTLENET_INT8_LANES == 16
inline __attribute__((always_inline)) Sums dot(Sums sums, Sums x, Sums w) {
  return reinterpret_cast<Sums>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}
#elif !FASTLENET_INT8_UNIT_EMULATED && FASTLENET_INT8_TAPS == 4
inline __attribute__((always_inline)) Sums dot(Sums sums, Sums x, Sums w) {
  return reinterpret_cast<Sums>(
      _mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sums), reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
}
#elif !FASTLENET_INT8_UNIT_EMULATED
// Not VPMADDUBSW, whose sums of two products saturate at 16 bits: 2 * 255 * 127 is more.
inline __attribute__((always_inline)) Sums dot(Sums sums, Sums x, Sums w) {
  return sums + reinterpret_cast<Sums>(_mm256_madd_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
}
#elif FASTLENET_INT8_TAPS == 4
inline Sums dot(Sums sums, Sums x, Sums w) {
  std::uint8_t unsigned_taps[kTaps * kLanes];
  std::int8_t signed_taps[kTaps * kLanes];
  __builtin_memcpy(unsigned_taps, &x, sizeof x);
  __builtin_memcpy(signed_taps, &w, sizeof w);
  for (int i = 0; i < kTaps * kLanes; ++i) sums[i / kTaps] += unsigned_taps[i] * signed_taps[i];
  return sums;
}
#else
// The arithmetic shifts put each half, with its sign, into 32 bits.
inline Sums dot(Sums sums, Sums x, Sums w) { return sums + (x >> 16) * (w >> 16) + ((x << 16) >> 16) * ((w << 16) >> 16); }
#endif

// The adding of 1.5 * 2^23 rounds a float of up to 22 bits to the nearest integer, ties to even, which then is the lower part
// of the sum's bits.
constexpr float kRounding = 12582912.0f;
constexpr std::int32_t kRoundingBits = 0x4B400000;

// clip(rint(float32(sums) * multiplier) + zero_point, 0, 255): the bounds are integers, so clipping may come first.
inline __attribute__((always_inline)) Bytes requantised(Sums sums, Floats multiplier, std::int32_t zero_point) {
  const Floats least = broadcast(static_cast<float>(-zero_point)), most = broadcast(static_cast<float>(255 - zero_point));
  Floats y = __builtin_convertvector(sums, Floats) * multiplier;
  y = y < least ? least : y;
  y = y > most ? most : y;
  const Sums integers = reinterpret_cast<Sums>(y + broadcast(kRounding)) - broadcast(kRoundingBits - zero_point);
#if FASTLENET_INT8_UNIT_EMULATED
  return __builtin_convertvector(integers, Bytes);
#elif FASTLENET_INT8_LANES == 16
  return reinterpret_cast<Bytes>(_mm512_maskz_cvtepi32_epi8(0xFFFF, reinterpret_cast<__m512i>(integers)));
#else
  const __m256i words = reinterpret_cast<__m256i>(integers);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i bytes = _mm_packus_epi16(halves, halves);
  Bytes narrow;
  __builtin_memcpy(&narrow, &bytes, sizeof narrow);
  return narrow;
#endif
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
