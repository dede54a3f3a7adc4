// The vector type of this level: the only text that knows the instruction set.
//
// GCC's and Clang's vector extensions give +, *, comparisons (to an integer vector of 0 and -1) and `mask ? a : b`,
// lane by lane; `accumulator += scalar * vector` becomes one fused multiply-add with a broadcast where the level has
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

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
// or 5 x 2 = 10 + 2 + 1 = 13 of 16. Five, since LeNet's 20, 50, 500 and 10 are all multiples of it.
constexpr int kTileRows = 5;
constexpr int kTileVectors = kRegisters == 32 ? 4 : 2;

typedef float Vector __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t IntVector __attribute__((vector_size(4 * kLanes)));
typedef std::uint8_t ByteVector __attribute__((vector_size(kLanes)));

// Half as many lanes in double precision, so that both fill one register.
constexpr int kDoubleLanes = kLanes / 2;
typedef float HalfVector __attribute__((vector_size(4 * kDoubleLanes)));
typedef double DoubleVector __attribute__((vector_size(8 * kDoubleLanes)));
typedef std::int64_t LongVector __attribute__((vector_size(8 * kDoubleLanes)));

// The same in memory of any alignment; they may alias everything, as char does.
typedef float UnalignedVector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef float UnalignedHalfVector __attribute__((vector_size(4 * kDoubleLanes), aligned(4), may_alias));
typedef std::int32_t UnalignedIntVector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));
typedef std::uint8_t UnalignedByteVector __attribute__((vector_size(kLanes), aligned(1), may_alias));

inline __attribute__((always_inline)) Vector load(const float* from) { return *reinterpret_cast<const UnalignedVector*>(from); }

inline __attribute__((always_inline)) void store(float* to, Vector value) { *reinterpret_cast<UnalignedVector*>(to) = value; }

inline __attribute__((always_inline)) void store(std::int32_t* to, IntVector value) {
  *reinterpret_cast<UnalignedIntVector*>(to) = value;
}

inline __attribute__((always_inline)) void store(std::uint8_t* to, IntVector value) {
  *reinterpret_cast<UnalignedByteVector*>(to) = __builtin_convertvector(value, ByteVector);
}

// kDoubleLanes floats, widened; and back, rounded once.
inline __attribute__((always_inline)) DoubleVector load_double(const float* from) {
  return __builtin_convertvector(HalfVector(*reinterpret_cast<const UnalignedHalfVector*>(from)), DoubleVector);
}

inline __attribute__((always_inline)) void store_float(float* to, DoubleVector value) {
  *reinterpret_cast<UnalignedHalfVector*>(to) = __builtin_convertvector(value, HalfVector);
}

inline __attribute__((always_inline)) Vector broadcast(float value) { return value - Vector{}; }

inline __attribute__((always_inline)) IntVector broadcast_int(std::int32_t value) { return value - IntVector{}; }

// One step of a kLanes x kLanes transposition: swaps the blocks of size `distance` off the diagonal of two rows.
template <int distance, int... lane>
inline __attribute__((always_inline)) void exchange(Vector& low, Vector& high, std::integer_sequence<int, lane...>) {
  constexpr IntVector keep_low = {((lane & distance) ? lane - distance + kLanes : lane)...};
  constexpr IntVector keep_high = {((lane & distance) ? lane + kLanes : lane + distance)...};
  const Vector new_low = __builtin_shuffle(low, high, keep_low);
  high = __builtin_shuffle(low, high, keep_high);
  low = new_low;
}

template <int distance>
inline __attribute__((always_inline)) void transpose_steps(Vector (&rows)[kLanes]) {
  if constexpr (distance > 0) {
    for (int i = 0; i < kLanes; ++i) {
      if ((i & distance) == 0) {
        exchange<distance>(rows[i], rows[i + distance], std::make_integer_sequence<int, kLanes>{});
      }
    }
    transpose_steps<distance / 2>(rows);
  }
}

// rows[i][j] <-> rows[j][i], in log2(kLanes) rounds of kLanes shuffles.
inline __attribute__((always_inline)) void transpose(Vector (&rows)[kLanes]) { transpose_steps<kLanes / 2>(rows); }

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
