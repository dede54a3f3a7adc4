// Scratch memory of the ops, kept from call to call: fresh large arrays would cost page faults in every training step.
#pragma once

#include <cstdint>

namespace fastlenet {

// Hands out arrays that belong to the calling thread. All of an op's arrays are asked for at once, before any is used: the
// next op's take their place.
class Scratch {
 public:
  // Arrays of so many floats; every one starts on a cache line.
  template <int arrays>
  static void take(float* (&pointers)[arrays], const std::int64_t (&sizes)[arrays]) {
    take(pointers, sizes, arrays);
  }

 private:
  // In scratch.cpp out of one block that only grows; in scratch_guarded.cpp, for the address sanitizer, each on its own.
  static void take(float** pointers, const std::int64_t* sizes, int arrays);
};

}  // namespace fastlenet
