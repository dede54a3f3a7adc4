// Scratch memory of the ops. It is kept from call to call, because new large arrays would cost page faults in every step.
#pragma once

#include <cstdint>

namespace fastlenet {

// Gives the calling thread arrays of its own. Take all arrays of an op in one call: the next call reuses the same memory.
class Scratch {
 public:
  // Arrays of these sizes, in floats; each starts on a cache line.
  template <int arrays>
  static void take(float* (&pointers)[arrays], const std::int64_t (&sizes)[arrays]) {
    take(pointers, sizes, arrays);
  }

 private:
  // scratch.cpp takes them from one block that only grows. scratch_guarded.cpp, for the address sanitizer, allocates each
  // alone.
  static void take(float** pointers, const std::int64_t* sizes, int arrays);
};

}  // namespace fastlenet
