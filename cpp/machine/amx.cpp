#include "amx.hpp"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastlenet {

namespace {

std::mutex asking;
std::atomic<bool> asked{false};
std::string refusal;  // once asked

#if defined(__x86_64__) && defined(__linux__)
bool has_instructions() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // OSXSAVE
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const bool tiles = d >> 22 & d >> 24 & 1;  // AMX-BF16, AMX-TILE
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return false;
  const bool rounds = a >> 5 & 1;  // AVX512_BF16
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return tiles && rounds && (low >> 17 & 3) == 3;  // the states XTILECFG and XTILEDATA
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
bool has_instructions() { return false; }
std::string ask() { return ""; }
#endif

}  // namespace

bool cpu_has_amx() {
  static const bool has = has_instructions();
  return has;
}

std::string amx_refusal() {
  if (!cpu_has_amx()) return "this CPU has no AMX tiles of bfloat16";
  const std::lock_guard<std::mutex> lock(asking);
  if (!asked) {
    refusal = ask();
    asked = true;
  }
  return refusal;
}

std::string amx_state() {
  if (!cpu_has_amx()) return "not on this CPU";
  if (!asked) return "not asked for yet";
  const std::string why = amx_refusal();
  return why.empty() ? "granted" : "refused: " + why;
}

}  // namespace fastlenet
