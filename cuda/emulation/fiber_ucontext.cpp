#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

#include "fiber.hpp"

namespace fastlenet::emulation {

namespace {

// makecontext passes integers only.
void start(unsigned run_high, unsigned run_low, unsigned argument_high, unsigned argument_low) {
  const auto join = [](unsigned high, unsigned low) { return static_cast<std::uintptr_t>(high) << 32 | low; };
  reinterpret_cast<void (*)(void*)>(join(run_high, run_low))(reinterpret_cast<void*>(join(argument_high, argument_low)));
}

}  // namespace

Fiber::Fiber(void (*run)(void*), void* argument) {
  memory_ = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  ucontext_t* own = new ucontext_t;
  getcontext(own);
  own->uc_stack.ss_sp = memory_;
  own->uc_stack.ss_size = kStack;
  own->uc_link = nullptr;
  const auto r = reinterpret_cast<std::uintptr_t>(run), a = reinterpret_cast<std::uintptr_t>(argument);
  makecontext(own, reinterpret_cast<void (*)()>(start), 4, static_cast<unsigned>(r >> 32), static_cast<unsigned>(r),
              static_cast<unsigned>(a >> 32), static_cast<unsigned>(a));
  own_ = own;
  scheduler_ = new ucontext_t;
}

Fiber::~Fiber() {
  delete static_cast<ucontext_t*>(own_);
  delete static_cast<ucontext_t*>(scheduler_);
  munmap(memory_, kStack);
}

void Fiber::resume() { swapcontext(static_cast<ucontext_t*>(scheduler_), static_cast<ucontext_t*>(own_)); }

void Fiber::yield() { swapcontext(static_cast<ucontext_t*>(own_), static_cast<ucontext_t*>(scheduler_)); }

}  // namespace fastlenet::emulation
