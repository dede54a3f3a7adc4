// bfloat16 in plain C++: its rounding, and the fused multiply-add and the addition of the instructions that multiply it. Their
// arithmetic is that of Intel's manual (VCVTNEPS2BF16, VDPBF16PS, TDPBF16PS) and of Zen 4: rounded to nearest even, denormals
// taken as zeros and flushed to zeros, MXCSR not consulted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastlenet::FASTLENET_UNIT {
namespace {

// Two bfloat16 of consecutive depth; the first is in the low half, so that it comes first in memory.
typedef std::uint32_t Pair;

constexpr std::uint32_t kSignBit = 0x80000000, kExponent = 0x7F800000, kQuiet = 0x00400000, kDefaultNaN = 0xFFC00000;

inline float as_float(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline std::uint32_t as_bits(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline bool is_nan(float x) { return (as_bits(x) & ~kSignBit) > kExponent; }

// The zero of the same sign for a denormal number.
inline float flushed(float x) { return as_bits(x) & kExponent ? x : as_float(as_bits(x) & kSignBit); }

inline float first_of(Pair pair) { return as_float(pair << 16); }
inline float second_of(Pair pair) { return as_float(pair & 0xFFFF0000); }

// As VCVTNEPS2BF16. A NaN is cut and made quiet. Rounding carries into the exponent, and so up to infinity.
inline std::uint16_t emulated_round(float x) {
  const std::uint32_t bits = as_bits(flushed(x));
  if (is_nan(x)) return static_cast<std::uint16_t>((bits | kQuiet) >> 16);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The first NaN of the operands, quiet; or the default one, which an invalid operation gives.
inline float nan_of(float a, float b, float c) {
  for (const float x : {a, b, c}) {
    if (is_nan(x)) return as_float(as_bits(x) | kQuiet);
  }
  return as_float(kDefaultNaN);
}

// a * b + sum, rounded once, for floats a and b of at most 12 significant bits.
//
// In double, the product is exact. The sum is rounded to odd: where it is inexact its last bit becomes 1, so that rounding it
// again, to float, gives the nearest float of the exact sum (Boldo and Melquiond 2008; 53 >= 24 + 2 bits). The error of the
// sum comes from Knuth's two-sum, and is exact, since no exponent of a double can overflow or underflow here.
//
// A result is flushed if it is tiny after rounding with 24 bits, as x86 has it: below 2^-126 - 2^-151, from where on 24 bits
// round up to 2^-126.
inline float emulated_multiply_add(float a, float b, float sum) {
  constexpr double kTiny = 0x1p-126 - 0x1p-151;
  a = flushed(a), b = flushed(b), sum = flushed(sum);
  if (is_nan(a) || is_nan(b) || is_nan(sum)) return nan_of(a, b, sum);
  const double product = static_cast<double>(a) * static_cast<double>(b), term = sum;
  const double total = product + term;
  if (total != total) return as_float(kDefaultNaN);
  if (total < kTiny && total > -kTiny) return __builtin_copysignf(0.0f, static_cast<float>(total));
  const double part = total - product, error = (product - (total - part)) + (term - part);
  std::uint64_t bits;
  __builtin_memcpy(&bits, &total, sizeof bits);
  const bool finite = (bits >> 52 & 0x7FF) != 0x7FF;
  if (!finite || error == 0.0 || (bits & 1)) return static_cast<float>(total);
  bits += (error > 0.0) == (total > 0.0) ? 1 : -1;  // to the neighbour on the side of the exact sum, which is odd
  double odd;
  __builtin_memcpy(&odd, &bits, sizeof odd);
  return static_cast<float>(odd);
}

// A sum of floats that is below 2^-126 is exact, so it is tiny before rounding and after it.
inline float emulated_add(float a, float b) {
  a = flushed(a), b = flushed(b);
  if (is_nan(a) || is_nan(b)) return nan_of(a, b, 0.0f);
  const float sum = a + b;
  return sum != sum ? as_float(kDefaultNaN) : flushed(sum);
}

// As VDPBF16PS: first the products of the odd places, then those of the even ones.
inline float emulated_dot(float sum, Pair a, Pair b) {
  sum = emulated_multiply_add(second_of(a), second_of(b), sum);
  return emulated_multiply_add(first_of(a), first_of(b), sum);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
