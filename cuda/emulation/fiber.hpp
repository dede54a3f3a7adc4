// A thread of a block with its own stack. It runs until it yields, and continues when it is resumed.
#pragma once

#include <cstddef>

namespace fastlenet::emulation {

// fiber_x86_64.cpp switches by saving the registers that a call must keep, in some nanoseconds. fiber_ucontext.cpp, for other
// processors, uses swapcontext, which is slower because it also makes a system call for the signal mask.
class Fiber {
 public:
  // `run` must never return; at its end it keeps yielding.
  Fiber(void (*run)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // from the scheduler, until the fiber yields
  void yield();   // from the fiber, back to the scheduler

 private:
  static constexpr std::size_t kStack = 256 * 1024;  // untouched pages cost nothing; the address sanitizer needs room
  void* memory_;
  void* own_;
  void* scheduler_;
};

}  // namespace fastlenet::emulation
