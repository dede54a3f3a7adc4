// Scratch memory of the ops. It is kept from call to call, because new large arrays would cost page faults in every step.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace fastlenet {

// An array that an op asks for: the pointer that is to point to it, and its number of elements, of 4 bytes each.
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
// starts on a cache line. An op asks once, before it uses any of them: the next op's arrays take their place.
//
// In scratch.cpp they come out of one block that only grows; in scratch_guarded.cpp, for the address sanitizer, each is an
// allocation of its own.
void take_scratch(std::initializer_list<ScratchArray> arrays);

}  // namespace fastlenet
