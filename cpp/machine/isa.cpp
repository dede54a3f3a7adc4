#include "isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace fastlenet {

#if defined(__x86_64__)
namespace x86_64_v2 {
extern const KernelTable kernels;
}
namespace x86_64_v3 {
extern const KernelTable kernels;
}
namespace x86_64_v4 {
extern const KernelTable kernels;
}
#elif defined(__aarch64__)
namespace aarch64 {
extern const KernelTable kernels;
}
#endif

namespace {

struct Level {
  const KernelTable* table;
  bool (*supported)();
};

// Best first. __builtin_cpu_supports also checks that the operating system saves the wider registers.
#if defined(__x86_64__)
const Level kLevels[] = {
    {&x86_64_v4::kernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
     }},
    {&x86_64_v3::kernels,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2");
     }},
    {&x86_64_v2::kernels, [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
};
#elif defined(__aarch64__)
const Level kLevels[] = {{&aarch64::kernels, [] { return true; }}};
#endif

std::atomic<const KernelTable*> current{nullptr};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<std::string> levels_built() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) names.push_back(level.table->level);
  return names;
}

std::vector<std::string> levels_available() {
  std::vector<std::string> names;
  for (const Level& level : kLevels) {
    if (level.supported()) names.push_back(level.table->level);
  }
  return names;
}

const KernelTable& kernels() { return *current.load(std::memory_order_acquire); }

void set_level(const std::string& name) {
  for (const Level& level : kLevels) {
    if (name != level.table->level) continue;
    if (!level.supported()) {
      throw std::invalid_argument("instruction-set level " + name +
                                  " is not supported by this CPU; available: " + join(levels_available()));
    }
    current.store(level.table, std::memory_order_release);
    return;
  }
  throw std::invalid_argument("unknown instruction-set level '" + name + "'; built: " + join(levels_built()) +
                              "; available on this CPU: " + join(levels_available()));
}

void select_level() {
  const char* wanted = std::getenv("FASTLENET_ISA");
  if (wanted != nullptr && *wanted != '\0') {
    try {
      set_level(wanted);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("FASTLENET_ISA: ") + error.what());
    }
    return;
  }
  const std::vector<std::string> available = levels_available();
  if (available.empty()) {
    throw std::invalid_argument("this CPU supports none of the instruction-set levels of this build: " + join(levels_built()));
  }
  set_level(available.front());
}

}  // namespace fastlenet
