// A thread of a block: a stack of its own, that runs until it yields and goes on when it is resumed.
#pragma once

#include <cstddef>

namespace fastlenet::emulation {

// In fiber_x86_64.cpp a switch saves the registers that a call must keep, some nanoseconds; in fiber_ucontext.cpp, for other
// processors, it is swapcontext, which also asks the kernel for the signal mask.
class Fiber {
 public:
  // Never returns from `run`: it yields for ever.
  Fiber(void (*run)(void*), void* argument);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // from the scheduler, until the fiber yields
  void yield();   // from the fiber, back to the scheduler

 private:
  static constexpr std::size_t kStack = 256 * 1024;  // untouched pages cost nothing; the address sanitizer wants room
  void* memory_;
  void* own_;
  void* scheduler_;
};

}  // namespace fastlenet::emulation
