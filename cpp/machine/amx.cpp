#include "amx.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isa.hpp"
#endif

namespace fastlenet {

namespace {

std::mutex asking;
std::atomic<bool> asked{false};
std::string refusal;  // once asked

#if defined(__x86_64__) && defined(__linux__)
// EAX, EBX, ECX or EDX, for at = 0, 1, 2 or 3.
unsigned leaf_7(unsigned subleaf, unsigned at) {
  unsigned found[4] = {};
  return __get_cpuid_count(7, subleaf, &found[0], &found[1], &found[2], &found[3]) ? found[at] : 0;
}

bool tiles_are_saved() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // OSXSAVE
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3) == 3;  // the states XTILECFG and XTILEDATA
}

// AMX-BF16 and AMX-TILE, and AVX512_BF16.
bool has_bf16() {
  return cpu_has_v4() && (leaf_7(0, 3) >> 22 & leaf_7(0, 3) >> 24 & leaf_7(1, 0) >> 5 & 1) != 0 && tiles_are_saved();
}

// AMX-INT8 and AMX-TILE, and AVX512_VNNI.
bool has_int8() {
  return cpu_has_v4() && (leaf_7(0, 3) >> 25 & leaf_7(0, 3) >> 24 & leaf_7(0, 2) >> 11 & 1) != 0 && tiles_are_saved();
}

// Linux 5.16 and newer, Documentation/arch/x86/xstate.rst.
std::string ask() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0) return "";
  switch (errno) {
    case EINVAL:
      return "the kernel does not offer tiles; Linux 5.16 or newer does";
    case ENOSPC:
      return "a thread's alternate signal stack is too small for tiles; make it larger before the first use of bf16";
    case EPERM:
      return "the kernel or a sandbox forbids it";
    default:
      return std::string("the kernel refused it: ") + std::strerror(errno);
  }
}
#else
bool has_bf16() { return false; }
bool has_int8() { return false; }
std::string ask() { return ""; }
#endif

std::string permission() {
  const std::lock_guard<std::mutex> lock(asking);
  if (!asked) {
    refusal = ask();
    asked = true;
  }
  return refusal;
}

}  // namespace

bool cpu_has_amx_bf16() {
  static const bool has = has_bf16();
  return has;
}

bool cpu_has_amx_int8() {
  static const bool has = has_int8();
  return has;
}

std::string amx_bf16_refusal() { return cpu_has_amx_bf16() ? permission() : "this CPU has no AMX tiles of bfloat16"; }
std::string amx_int8_refusal() { return cpu_has_amx_int8() ? permission() : "this CPU has no AMX tiles of int8"; }

std::string amx_state() {
  if (!cpu_has_amx_bf16() && !cpu_has_amx_int8()) return "not on this CPU";
  if (!asked) return "not asked for yet";
  const std::string why = permission();
  return why.empty() ? "granted" : "refused: " + why;
}

}  // namespace fastlenet
