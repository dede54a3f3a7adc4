// Scratch memory of the ops. It is kept from call to call, because new large arrays would cost page faults in every step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace fastlenet {

// An array for each worker: `x_blocks[worker]`.
template <typename Element>
class PerWorker {
 public:
  Element* operator[](std::int64_t worker) const { return first_ + worker * apart_; }

 private:
  friend class ScratchArray;
  Element* first_ = nullptr;
  std::ptrdiff_t apart_ = 0;
};

// An array that an op needs, or one for each worker: what points to it, and the number of its 4-byte elements.
class ScratchArray {
 public:
  template <typename Element>
  ScratchArray(Element*& pointer, std::int64_t size)
      : size_(size),
        to_(&pointer),
        set_([](void* to, void* data, std::ptrdiff_t) { *static_cast<Element**>(to) = static_cast<Element*>(data); }) {
    static_assert(sizeof(Element) == sizeof(float));
  }

  template <typename Element>
  ScratchArray(PerWorker<Element>& arrays, int workers, std::int64_t size)
      : workers_(workers), size_(size), to_(&arrays), set_([](void* to, void* data, std::ptrdiff_t apart) {
          PerWorker<Element>& set = *static_cast<PerWorker<Element>*>(to);
          set.first_ = static_cast<Element*>(data);
          set.apart_ = apart;
        }) {
    static_assert(sizeof(Element) == sizeof(float));
  }

  int workers() const { return workers_; }     // 0 for an array that all workers share
  std::int64_t size() const { return size_; }  // of one worker's array
  // apart: elements from a worker's array to the next worker's.
  void point_to(void* data, std::ptrdiff_t apart) const { set_(to_, data, apart); }

 private:
  int workers_ = 0;
  std::int64_t size_;
  void* to_;
  void (*set_)(void* to, void* data, std::ptrdiff_t apart);
};

// Gives the calling thread all arrays that an op needs: `take_scratch({{weights, size}, {x_blocks, workers, x_size}})`. Every
// array starts on a cache line. Call it once per op, before using any of the arrays: the next call reuses the same memory.
//
// scratch.cpp takes the arrays from one block that only grows. There a worker's arrays lie in the same part of the block in
// every op, unless that takes much more memory, so that they stay in its core's cache. Where the parts moved from op to op,
// each op fetched lines that the other core had written last: between two core complexes (Zen 4) a training of a network of
// CIFAR's size had 5,200 images/s on two threads instead of 7,700. scratch_guarded.cpp, for the address sanitizer, allocates
// each array separately.
void take_scratch(std::initializer_list<ScratchArray> arrays);

}  // namespace fastlenet
