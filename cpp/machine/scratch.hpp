// Scratch memory of the ops. It is kept from call to call, because new large arrays would cost page faults in every step.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace fastlenet {

// An array that an op needs: the pointer to set, and the number of its 4-byte elements.
class ScratchArray {
 public:
  template <typename Element>
  ScratchArray(Element*& pointer, std::int64_t size)
      : size_(size),
        pointer_(&pointer),
        set_([](void* to, void* data) { *static_cast<Element**>(to) = static_cast<Element*>(data); }) {
    static_assert(sizeof(Element) == sizeof(float));
  }

  std::int64_t size() const { return size_; }
  void point_to(void* data) const { set_(pointer_, data); }

 private:
  std::int64_t size_;
  void* pointer_;
  void (*set_)(void* to, void* data);
};

// Gives the calling thread all arrays that an op needs: `take_scratch({{x_block, x_size}, {y_block, y_size}})`. Every array
// starts on a cache line. Call it once per op, before using any of the arrays: the next call reuses the same memory.
//
// scratch.cpp takes the arrays from one block that only grows. scratch_guarded.cpp, for the address sanitizer, allocates each
// one separately.
void take_scratch(std::initializer_list<ScratchArray> arrays);

}  // namespace fastlenet
