// exp in double precision, for the sigmoid and the softmax.
#pragma once

#include "simd.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// exp(u) for u <= 0, with a relative error below 3e-13. Returns exp(-700) for any u below -700, and NaN for NaN.
//
// u = n*ln2 + r with |r| <= ln2/2 = 0.3466; exp(r) by Taylor to r^10, whose remainder is 0.3466^11 / 11! = 2.2e-13.
// Adding 1.5 * 2^52 rounds u / ln2 to an integer in the low bits; a shift moves it to the exponent.
inline __attribute__((always_inline)) DoubleVector exponential(DoubleVector u) {
  constexpr double kRound = 0x1.8p52;
  constexpr double kInverseFactorial[] = {1.0,       1.0,        1.0 / 2,     1.0 / 6,      1.0 / 24,     1.0 / 120,
                                          1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800};
  u = u < -700.0 ? DoubleVector{} - 700.0 : u;
  const DoubleVector shifted = u * 0x1.71547652b82fep0 + kRound;
  const DoubleVector n = shifted - kRound;
  const DoubleVector r = (u - n * 0x1.62e42fefa39efp-1);
  DoubleVector sum = DoubleVector{} + kInverseFactorial[10];
  for (int i = 9; i >= 0; --i) sum = sum * r + kInverseFactorial[i];
  const LongVector power = (reinterpret_cast<LongVector>(shifted) << 52) + 0x3ff0000000000000;
  return sum * reinterpret_cast<DoubleVector>(power);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
