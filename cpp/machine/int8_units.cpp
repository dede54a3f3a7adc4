#include "int8_units.hpp"

#include <atomic>

#include "amx.hpp"
#include "choices.hpp"
#include "isa.hpp"

namespace fastlenet {

namespace tdpbsud_emulated {
extern const Int8Table kernels;
}
namespace vpdpbusd_emulated {
extern const Int8Table kernels;
}
namespace avx_vnni_emulated {
extern const Int8Table kernels;
}
namespace vpmaddwd_emulated {
extern const Int8Table kernels;
}
#if defined(__x86_64__)
namespace tdpbsud {
extern const Int8Table kernels;
}
namespace vpdpbusd {
extern const Int8Table kernels;
}
namespace avx_vnni {
extern const Int8Table kernels;
}
namespace vpmaddwd {
extern const Int8Table kernels;
}
#endif

namespace {

#if defined(__x86_64__)
bool cpu_has_avx512_vnni() { return cpu_has_v4() && __builtin_cpu_supports("avx512vnni"); }

// CPUID leaf 7, subleaf 1: EAX bit 4. Older compilers have no name for it.
bool cpu_has_avx_vnni() {
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  if (eax < 1) return false;
  eax = 7, ecx = 1;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (eax >> 4 & 1) != 0 && cpu_has_v3();
}
std::string avx512_vnni_refusal() { return cpu_has_avx512_vnni() ? "" : "this CPU has no AVX512_VNNI"; }
std::string avx_vnni_refusal() { return cpu_has_avx_vnni() ? "" : "this CPU has no AVX-VNNI"; }
std::string avx2_refusal() { return cpu_has_v3() ? "" : "this CPU has no AVX2"; }
#endif

// Best first. Of the emulations the one of VPMADDWD is, since older vector instructions have its products too.
const Choice<Int8Table> kUnits[] = {
#if defined(__x86_64__)
    {&tdpbsud::kernels, cpu_has_amx_int8, amx_int8_refusal, 4},
    {&vpdpbusd::kernels, cpu_has_avx512_vnni, avx512_vnni_refusal, 4},
    {&avx_vnni::kernels, cpu_has_avx_vnni, avx_vnni_refusal, 3},
    {&vpmaddwd::kernels, cpu_has_v3, avx2_refusal, 3},
#endif
    {&vpmaddwd_emulated::kernels, on_every_cpu, never_refused},
    {&avx_vnni_emulated::kernels, on_every_cpu, never_refused},
    {&vpdpbusd_emulated::kernels, on_every_cpu, never_refused},
    {&tdpbsud_emulated::kernels, on_every_cpu, never_refused},
};

constexpr const char* kKind = "int8 unit";

std::atomic<const Int8Table*> wanted{nullptr};

int level_in_use() {
  const std::string level = kernels().name;
  return level == "x86-64-v4" ? 4 : level == "x86-64-v3" ? 3 : 0;
}

}  // namespace

std::vector<std::string> int8_units_built() { return names_built(kUnits); }
std::vector<std::string> int8_units_available() { return names_available(kUnits); }

const Int8Table& int8_unit_named(const std::string& name) { return choice_named(kUnits, kKind, name); }

const Int8Table& int8_unit() {
  if (const Int8Table* table = wanted.load(std::memory_order_acquire)) return *table;
  if (const Int8Table* table = choice_of_variable(kUnits, kKind, "FASTLENET_INT8")) return *table;
  const int level = level_in_use();
  for (const Choice<Int8Table>& unit : kUnits) {
    if (unit.level <= level && unit.refusal().empty()) return *unit.table;
  }
  return vpmaddwd_emulated::kernels;
}

void set_int8_unit(const std::string& name) {
  wanted.store(name.empty() ? nullptr : &int8_unit_named(name), std::memory_order_release);
}

}  // namespace fastlenet
