#include "int8_units.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "isa.hpp"

namespace fastlenet {

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

struct Unit {
  const Int8Table* table;
  int level;  // the least x86-64-v whose other instructions it uses
  bool (*has)();
};

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2"); }

bool has_avx512_vnni() {
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// CPUID leaf 7, subleaf 1: EAX bit 4. Older compilers have no name for it.
bool has_avx_vnni() {
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  if (eax < 1) return false;
  eax = 7, ecx = 1;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (eax >> 4 & 1) != 0 && has_avx2();
}
#endif

// Best first. Of the emulations the one of VPMADDWD is, since older vector instructions have its products too.
const Unit kUnits[] = {
#if defined(__x86_64__)
    {&vpdpbusd::kernels, 4, has_avx512_vnni}, {&avx_vnni::kernels, 3, has_avx_vnni},
    {&vpmaddwd::kernels, 3, has_avx2},
#endif
    {&vpmaddwd_emulated::kernels, 0, always}, {&avx_vnni_emulated::kernels, 0, always},
    {&vpdpbusd_emulated::kernels, 0, always},
};

std::atomic<const Int8Table*> wanted{nullptr};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Int8Table& named(const std::string& name) {
  for (const Unit& unit : kUnits) {
    if (name == unit.table->name && unit.has()) return *unit.table;
  }
  throw std::invalid_argument("int8 unit '" + name + "' is not one that this build and this CPU have; built: " +
                              join(int8_units_built()) + "; available on this CPU: " + join(int8_units_available()));
}

int level_in_use() {
  const std::string level = kernels().level;
  return level == "x86-64-v4" ? 4 : level == "x86-64-v3" ? 3 : 0;
}

}  // namespace

std::vector<std::string> int8_units_built() {
  std::vector<std::string> names;
  for (const Unit& unit : kUnits) names.push_back(unit.table->name);
  return names;
}

std::vector<std::string> int8_units_available() {
  std::vector<std::string> names;
  for (const Unit& unit : kUnits) {
    if (unit.has()) names.push_back(unit.table->name);
  }
  return names;
}

const Int8Table& int8_unit() {
  if (const Int8Table* table = wanted.load(std::memory_order_acquire)) return *table;
  const char* name = std::getenv("FASTLENET_INT8");
  if (name != nullptr && *name != '\0') {
    try {
      return named(name);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("FASTLENET_INT8: ") + error.what());
    }
  }
  const int level = level_in_use();
  for (const Unit& unit : kUnits) {
    if (unit.level <= level && unit.has()) return *unit.table;
  }
  return vpmaddwd_emulated::kernels;
}

void set_int8_unit(const std::string& name) { wanted.store(name.empty() ? nullptr : &named(name), std::memory_order_release); }

}  // namespace fastlenet
