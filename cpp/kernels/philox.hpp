// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), the same as fastlenet.philox. Computes several blocks at
// once.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

constexpr int kPhiloxWords = 4 * kDoubleLanes;

// Writes kPhiloxWords words: the four words of block `block`, then of the next one, and so on. Each of ten rounds has two
// products of 32 x 32 -> 64 bits. A lane holds a word of one block in its low half; the next product ignores the high half.
inline void philox(std::uint32_t* words, std::uint64_t seed, std::uint32_t stream, std::uint64_t counter, std::uint32_t block) {
  constexpr std::uint64_t kLow = 0xFFFFFFFF;
  constexpr int kHalf = kDoubleLanes / 2;
  std::uint64_t key0 = seed & kLow, key1 = seed >> 32;
  WideVector word0, word1 = WideVector{} + (counter & kLow), word2 = WideVector{} + (counter >> 32),
                    word3 = WideVector{} + stream;
  // This order lets the two unpackings below put pairs of words next to each other.
  for (int lane = 0; lane < kDoubleLanes; ++lane) {
    word0[lane] = block + static_cast<std::uint32_t>(lane / 2 + lane % 2 * kHalf);
  }
  for (int round = 0; round < 10; ++round) {
    const WideVector low = multiply_low_halves(word0, 0xD2511F53), high = multiply_low_halves(word2, 0xCD9E8D57);
    word0 = (high >> 32) ^ word1 ^ key0;
    word1 = high;
    word2 = (low >> 32) ^ word3 ^ key1;
    word3 = low;
    key0 = (key0 + 0x9E3779B9) & kLow;
    key1 = (key1 + 0xBB67AE85) & kLow;
  }
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
  const Vector first = reinterpret_cast<Vector>((word0 & kLow) | (word1 << 32));
  const Vector second = reinterpret_cast<Vector>((word2 & kLow) | (word3 << 32));
  store(reinterpret_cast<float*>(words), unpack<2, Half::low>(first, second, lanes));
  store(reinterpret_cast<float*>(words) + kLanes, unpack<2, Half::high>(first, second, lanes));
}

void random_words(std::uint32_t* words, std::uint64_t seed, std::uint32_t stream, std::uint64_t counter, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kPhiloxWords)
    philox(words + i, seed, stream, counter, static_cast<std::uint32_t>(i / 4));
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
