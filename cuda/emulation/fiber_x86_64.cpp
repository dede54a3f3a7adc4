#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "fiber.hpp"

// The System V calling convention: a call may change everything but these six registers and the stack pointer.
extern "C" void fastlenet_switch_stack(void** from, void* to);
asm(R"(
.text
.type fastlenet_switch_stack, @function
fastlenet_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.type fastlenet_start_fiber, @function
fastlenet_start_fiber:
  movq %r12, %rdi
  callq *%r13
  ud2
)");
extern "C" void fastlenet_start_fiber();

namespace fastlenet::emulation {

Fiber::Fiber(void (*run)(void*), void* argument) : scheduler_(nullptr) {
  memory_ = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  // The first switch pops r15, r14, r13 = run, r12 = argument, rbx, rbp and the return address. After these 7 words the stack
  // pointer is 2 words below the end, a multiple of 16, as the call in fastlenet_start_fiber requires.
  void** top = reinterpret_cast<void**>(static_cast<char*>(memory_) + kStack) - 9;
  for (int i = 0; i < 9; ++i) top[i] = nullptr;
  top[2] = reinterpret_cast<void*>(run);
  top[3] = argument;
  top[6] = reinterpret_cast<void*>(fastlenet_start_fiber);
  own_ = top;
}

Fiber::~Fiber() { munmap(memory_, kStack); }

void Fiber::resume() { fastlenet_switch_stack(&scheduler_, own_); }

void Fiber::yield() { fastlenet_switch_stack(&own_, scheduler_); }

}  // namespace fastlenet::emulation
