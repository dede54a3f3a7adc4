// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011), as in cpp/kernels/philox.hpp.
#pragma once

#include "common.cuh"

namespace fastlenet::cuda {

// The four words of a block: ten rounds of two 32 x 32 -> 64 bit products.
__device__ __forceinline__ void philox(std::uint32_t* word, std::uint64_t seed, std::uint64_t counter, std::uint32_t stream,
                                       std::uint32_t block) {
  std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  word[0] = block;
  word[1] = static_cast<std::uint32_t>(counter);
  word[2] = static_cast<std::uint32_t>(counter >> 32);
  word[3] = stream;
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t low = 0xD2511F53ull * word[0], high = 0xCD9E8D57ull * word[2];
    word[0] = static_cast<std::uint32_t>(high >> 32) ^ word[1] ^ key0;
    word[1] = static_cast<std::uint32_t>(high);
    word[2] = static_cast<std::uint32_t>(low >> 32) ^ word[3] ^ key1;
    word[3] = static_cast<std::uint32_t>(low);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// The counter for the distortion of an image in an epoch.
__device__ __forceinline__ std::uint64_t counter_of(const Count& epoch, std::int64_t image) {
  return value_of(epoch) << 32 | static_cast<std::uint32_t>(image);
}

}  // namespace fastlenet::cuda
