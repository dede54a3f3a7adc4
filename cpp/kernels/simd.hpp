// The vector type of this level. No other file of the kernels depends on the instruction set.
//
// GCC's and Clang's vector extensions give +, *, comparisons (to an integer vector of 0 and -1) and `mask ? a : b`,
// lane by lane; `accumulator += scalar * vector` becomes one fused multiply-add with a broadcast where the level has
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fastlenet::FASTLENET_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8;
constexpr int kRegisters = 16;
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kRegisters = 32;
#else
constexpr int kLanes = 4;
constexpr int kRegisters = 16;
#endif

// The tile of the multiply-add loop: 5 rows x 4 vectors = 20 accumulators + 4 vectors + 1 scalar = 25 of 32 registers,
// or 5 x 2 = 10 + 2 + 1 = 13 of 16. It has five rows because LeNet's 20, 50, 500 and 10 are multiples of five.
constexpr int kTileRows = 5;
constexpr int kTileVectors = kRegisters == 32 ? 4 : 2;

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t IntVector __attribute__((vector_size(4 * kLanes)));
typedef std::uint8_t ByteVector __attribute__((vector_size(kLanes)));

inline std::ptrdiff_t whole_vectors(std::ptrdiff_t size) { return (size + kLanes - 1) / kLanes * kLanes; }

// Double-precision vectors have half as many lanes, so that they fill one register too.
constexpr int kDoubleLanes = kLanes / 2;
typedef float HalfVector __attribute__((vector_size(4 * kDoubleLanes)));
typedef double DoubleVector __attribute__((vector_size(8 * kDoubleLanes)));
typedef std::int64_t LongVector __attribute__((vector_size(8 * kDoubleLanes)));
typedef std::uint64_t WideVector __attribute__((vector_size(8 * kDoubleLanes)));

// The same types for memory of any alignment; they may alias any other type, as char does.
typedef float UnalignedVector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef float UnalignedHalfVector __attribute__((vector_size(4 * kDoubleLanes), aligned(4), may_alias));
typedef std::int32_t UnalignedIntVector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef std::uint8_t UnalignedByteVector __attribute__((vector_size(kLanes), aligned(1), may_alias));

inline __attribute__((always_inline)) Vector load(const float* from) { return *reinterpret_cast<const UnalignedVector*>(from); }

inline __attribute__((always_inline)) IntVector load_int(const std::int32_t* from) {
  return *reinterpret_cast<const UnalignedIntVector*>(from);
}

// Widen kLanes bytes to integers, and narrow them back. These are loops because GCC 12 splits the vector conversions.
inline __attribute__((always_inline)) IntVector load_bytes(const std::uint8_t* from) {
  std::int32_t wide[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) wide[lane] = from[lane];
  return load_int(wide);
}

inline __attribute__((always_inline)) void store(float* to, Vector value) { *reinterpret_cast<UnalignedVector*>(to) = value; }

inline __attribute__((always_inline)) void store(std::int32_t* to, IntVector value) {
  *reinterpret_cast<UnalignedIntVector*>(to) = value;
}

inline __attribute__((always_inline)) void store(std::uint8_t* to, IntVector value) {
  std::int32_t wide[kLanes];
  store(wide, value);
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<std::uint8_t>(wide[lane]);
}

// Writes the lanes of `value` that `keep` marks with -1 next to each other at `to`. Needs room for kLanes elements. Returns the
// number of lanes written.
inline __attribute__((always_inline)) int compress(std::int32_t* to, IntVector value, IntVector keep) {
#if defined(__AVX512F__)
  const __mmask16 mask = _mm512_test_epi32_mask(reinterpret_cast<__m512i>(keep), reinterpret_cast<__m512i>(keep));
  // Compresses in a register and stores it whole, because compressing to memory is slow on some CPUs.
  store(to, reinterpret_cast<IntVector>(_mm512_maskz_compress_epi32(mask, reinterpret_cast<__m512i>(value))));
  return __builtin_popcount(mask);
#else
  int count = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    to[count] = value[lane];
    count -= keep[lane];
  }
  return count;
#endif
}

// Load or store kLanes values, or only `count` if that is fewer. A load fills the other lanes with zeros; a store leaves the
// memory behind them unchanged.
inline __attribute__((always_inline)) Vector load_some(const float* from, std::int64_t count) {
  if (count >= kLanes) return load(from);
#if defined(__AVX512F__)
  return reinterpret_cast<Vector>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from));
#else
  Vector some;
  for (int lane = 0; lane < kLanes; ++lane) some[lane] = lane < count ? from[lane] : 0.0f;
  return some;
#endif
}

inline __attribute__((always_inline)) void store_some(float* to, Vector value, std::int64_t count) {
  if (count >= kLanes) return store(to, value);
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), reinterpret_cast<__m512>(value));
#else
  for (int lane = 0; lane < count; ++lane) to[lane] = value[lane];
#endif
}

// Widen kDoubleLanes floats to double, and round them back once.
inline __attribute__((always_inline)) DoubleVector load_double(const float* from) {
  return __builtin_convertvector(HalfVector(*reinterpret_cast<const UnalignedHalfVector*>(from)), DoubleVector);
}

inline __attribute__((always_inline)) void store_float(float* to, DoubleVector value) {
  *reinterpret_cast<UnalignedHalfVector*>(to) = __builtin_convertvector(value, HalfVector);
}

// x, which the compiler may not fuse into a multiply-add.
inline __attribute__((always_inline)) Vector rounded(Vector x) {
#ifdef __aarch64__
  asm("" : "+w"(x));
#else
  asm("" : "+v"(x));
#endif
  return x;
}

inline __attribute__((always_inline)) Vector broadcast(float value) { return value - Vector{}; }

inline __attribute__((always_inline)) IntVector broadcast_int(std::int32_t value) { return value - IntVector{}; }

// The result of a comparison for each lane: a mask register if the level has them, else a vector of 0 and -1. beats is true if
// value > best, or if value is NaN and best is not: the later value replaces the earlier one only then.
#if defined(__AVX512F__)
typedef __mmask16 Mask;

inline __attribute__((always_inline)) Mask beats(Vector value, Vector best) {
  const __m512 a = reinterpret_cast<__m512>(value), b = reinterpret_cast<__m512>(best);
  return _kand_mask16(_mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ), _mm512_cmp_ps_mask(b, b, _CMP_ORD_Q));
}

inline __attribute__((always_inline)) Mask not_positive(Vector value) {
  return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(value), _mm512_setzero_ps(), _CMP_LE_OQ);
}

template <int bit>
inline __attribute__((always_inline)) Mask has_bit(IntVector value) {
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(value), _mm512_set1_epi32(bit));
}

inline __attribute__((always_inline)) Vector select(Mask mask, Vector yes, Vector no) {
  return reinterpret_cast<Vector>(_mm512_mask_mov_ps(reinterpret_cast<__m512>(no), mask, reinterpret_cast<__m512>(yes)));
}

inline __attribute__((always_inline)) IntVector select(Mask mask, IntVector yes, IntVector no) {
  return reinterpret_cast<IntVector>(
      _mm512_mask_mov_epi32(reinterpret_cast<__m512i>(no), mask, reinterpret_cast<__m512i>(yes)));
}
#else
typedef IntVector Mask;

inline __attribute__((always_inline)) Mask beats(Vector value, Vector best) { return ~(value <= best) & (best == best); }

inline __attribute__((always_inline)) Mask not_positive(Vector value) { return value <= Vector{}; }

template <int bit>
inline __attribute__((always_inline)) Mask has_bit(IntVector value) {
  return (value & bit) != 0;
}

inline __attribute__((always_inline)) Vector select(Mask mask, Vector yes, Vector no) { return mask ? yes : no; }

inline __attribute__((always_inline)) IntVector select(Mask mask, IntVector yes, IntVector no) { return mask ? yes : no; }
#endif

// The 64-bit products of the lanes' low 32 bits with a factor; their high 32 bits are ignored.
inline __attribute__((always_inline)) WideVector multiply_low_halves(WideVector a, std::uint32_t factor) {
#if defined(__AVX512F__)
  // The masked forms, here and below, because GCC 12 warns of an undefined operand in the others.
  return reinterpret_cast<WideVector>(_mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), _mm512_set1_epi64(factor)));
#elif defined(__AVX2__)
  return reinterpret_cast<WideVector>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), _mm256_set1_epi64x(factor)));
#elif defined(__SSE2__)
  return reinterpret_cast<WideVector>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), _mm_set1_epi64x(factor)));
#else
  return (a & 0xFFFFFFFF) * factor;
#endif
}

// table[index], lane by lane.
inline __attribute__((always_inline)) IntVector look_up(const std::int32_t* table, IntVector index) {
#if defined(__AVX512F__)
  return reinterpret_cast<IntVector>(
      _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), 0xFFFF, reinterpret_cast<__m512i>(index), table, 4));
#else
  IntVector value;
  for (int lane = 0; lane < kLanes; ++lane) value[lane] = table[index[lane]];
  return value;
#endif
}

// Transposes kLanes x kLanes floats in two stages, by shuffles that need no index register: first 4 x 4 floats within each
// quarter of 128 bits, then whole quarters.
enum class Half { low, high };

// Lane i is lane index[i] of a and b side by side.
template <int... index>
inline __attribute__((always_inline)) Vector shuffle(Vector a, Vector b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, index...);
#else  // GCC has __builtin_shufflevector only since version 12
  constexpr IntVector order = {index...};
  return __builtin_shuffle(a, b, order);
#endif
}

// In each quarter: the low or the high two floats of a and b, alternating one by one (size 1) or in pairs (size 2).
template <int size, Half half, int... lane>
inline __attribute__((always_inline)) Vector unpack(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  constexpr int from = half == Half::low ? 0 : 2;
  return shuffle<(lane / 4 * 4 + from +
                  (size == 1 ? lane % 4 / 2 + lane % 2 * kLanes  //
                             : lane % 2 + lane % 4 / 2 * kLanes))...>(a, b);
}

// The even (first = 0) or odd quarters of a, then those of b.
template <int first, int... lane>
inline __attribute__((always_inline)) Vector unzip(Vector a, Vector b, std::integer_sequence<int, lane...>) {
  return shuffle<((lane / 4 * 2 + first) * 4 + lane % 4)...>(a, b);
}

// rows[i][j] <-> rows[j][i]
inline __attribute__((always_inline)) void transpose(Vector (&rows)[kLanes]) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
  constexpr int quarters = kLanes / 4;
  Vector part[4][quarters];  // part[j][i]: column j of each quarter, of the rows 4*i..4*i+3
  for (int i = 0; i < quarters; ++i) {
    const Vector low0 = unpack<1, Half::low>(rows[4 * i], rows[4 * i + 1], lanes);
    const Vector high0 = unpack<1, Half::high>(rows[4 * i], rows[4 * i + 1], lanes);
    const Vector low1 = unpack<1, Half::low>(rows[4 * i + 2], rows[4 * i + 3], lanes);
    const Vector high1 = unpack<1, Half::high>(rows[4 * i + 2], rows[4 * i + 3], lanes);
    part[0][i] = unpack<2, Half::low>(low0, low1, lanes);
    part[1][i] = unpack<2, Half::high>(low0, low1, lanes);
    part[2][i] = unpack<2, Half::low>(high0, high1, lanes);
    part[3][i] = unpack<2, Half::high>(high0, high1, lanes);
  }
  for (int j = 0; j < 4; ++j) {
    if constexpr (quarters == 1) {
      rows[j] = part[j][0];
    } else if constexpr (quarters == 2) {
      rows[j] = unzip<0>(part[j][0], part[j][1], lanes);
      rows[4 + j] = unzip<1>(part[j][0], part[j][1], lanes);
    } else {
      const Vector even0 = unzip<0>(part[j][0], part[j][1], lanes), odd0 = unzip<1>(part[j][0], part[j][1], lanes);
      const Vector even1 = unzip<0>(part[j][2], part[j][3], lanes), odd1 = unzip<1>(part[j][2], part[j][3], lanes);
      rows[j] = unzip<0>(even0, even1, lanes);
      rows[4 + j] = unzip<0>(odd0, odd1, lanes);
      rows[8 + j] = unzip<1>(even0, even1, lanes);
      rows[12 + j] = unzip<1>(odd0, odd1, lanes);
    }
  }
}

// The sum of the lanes, as a balanced tree in a fixed order.
inline __attribute__((always_inline)) float sum_lanes(Vector value) {
  float lanes[kLanes];
  store(lanes, value);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
