// Scratch memory of the ops, kept from call to call: fresh large arrays would cost page faults in every training step.
#pragma once

#include <cstdint>

namespace fastlenet {

// Hands out arrays from one block that belongs to the calling thread and only grows. All of an op's arrays are asked
// for at once, before any is used: the next op's begin at the start again.
class Scratch {
 public:
  // The number of floats of each array; every one starts on a cache line.
  template <int arrays>
  static void take(float* (&pointers)[arrays], const std::int64_t (&sizes)[arrays]) {
    std::int64_t total = 0;
    for (std::int64_t size : sizes) total += padded(size);
    float* at = reserve(total);
    for (int i = 0; i < arrays; ++i) {
      pointers[i] = at;
      at += padded(sizes[i]);
    }
  }

 private:
  static std::int64_t padded(std::int64_t size) { return (size + 15) / 16 * 16; }
  static float* reserve(std::int64_t size);
};

}  // namespace fastlenet
