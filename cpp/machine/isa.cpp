#include "isa.hpp"

#include <atomic>

#include "choices.hpp"

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

#if defined(__x86_64__)
// __builtin_cpu_supports also checks that the operating system saves the wider registers.
bool cpu_has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}

bool cpu_has_v4() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

namespace {

// Best first.
#if defined(__x86_64__)
bool cpu_has_v2() { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }

template <bool (*has)()>
std::string refusal() {
  return has() ? "" : "this CPU lacks its instructions";
}

const Choice<KernelTable> kLevels[] = {{&x86_64_v4::kernels, cpu_has_v4, refusal<cpu_has_v4>},
                                       {&x86_64_v3::kernels, cpu_has_v3, refusal<cpu_has_v3>},
                                       {&x86_64_v2::kernels, cpu_has_v2, refusal<cpu_has_v2>}};
#elif defined(__aarch64__)
const Choice<KernelTable> kLevels[] = {{&aarch64::kernels, on_every_cpu, never_refused}};
#endif

constexpr const char* kKind = "instruction-set level";

std::atomic<const KernelTable*> current{nullptr};

}  // namespace

std::vector<std::string> levels_built() { return names_built(kLevels); }
std::vector<std::string> levels_available() { return names_available(kLevels); }

const KernelTable& kernels() { return *current.load(std::memory_order_acquire); }

void set_level(const std::string& name) { current.store(&choice_named(kLevels, kKind, name), std::memory_order_release); }

void select_level() {
  const KernelTable* wanted = choice_of_variable(kLevels, kKind, "FASTLENET_ISA");
  if (wanted != nullptr) {
    current.store(wanted, std::memory_order_release);
    return;
  }
  const std::vector<std::string> available = levels_available();
  if (available.empty()) {
    throw std::invalid_argument("this CPU supports none of the instruction-set levels of this build: " + join(levels_built()));
  }
  set_level(available.front());
}

}  // namespace fastlenet
