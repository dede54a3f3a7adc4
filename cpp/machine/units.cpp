#include "units.hpp"

#include <atomic>
#include <mutex>

#include "amx.hpp"
#include "choices.hpp"
#include "isa.hpp"

namespace fastlenet {

namespace vdpbf16ps_emulated {
extern const LowPrecisionTable kernels;
}
namespace tdpbf16ps_emulated {
extern const LowPrecisionTable kernels;
}
#if defined(__x86_64__)
namespace vdpbf16ps {
extern const LowPrecisionTable kernels;
}
namespace tdpbf16ps {
extern const LowPrecisionTable kernels;
}
#endif

namespace {

#if defined(__x86_64__)
bool cpu_has_avx512_bf16() { return cpu_has_v4() && __builtin_cpu_supports("avx512bf16"); }

std::string avx512_bf16_refusal() { return cpu_has_avx512_bf16() ? "" : "this CPU has no AVX512_BF16"; }
#endif

// Best first.
const Choice<LowPrecisionTable> kUnits[] = {
#if defined(__x86_64__)
    {&tdpbf16ps::kernels, cpu_has_amx_bf16, amx_bf16_refusal},
    {&vdpbf16ps::kernels, cpu_has_avx512_bf16, avx512_bf16_refusal},
#endif
    {&tdpbf16ps_emulated::kernels, on_every_cpu, never_refused},
    {&vdpbf16ps_emulated::kernels, on_every_cpu, never_refused},
};

std::mutex choosing;
std::atomic<const LowPrecisionTable*> current{nullptr};
std::atomic<std::int64_t> repeated{0};
std::atomic<std::int64_t> losses_every{0}, losses_times{0};

const LowPrecisionTable& choose() {
  const LowPrecisionTable* wanted = choice_of_variable(kUnits, "unit", "FASTLENET_BF16");
  if (wanted != nullptr) return *wanted;
  std::string reasons;
  for (const Choice<LowPrecisionTable>& unit : kUnits) {
    if (unit.table->emulated) continue;
    const std::string refusal = unit.refusal();
    if (refusal.empty()) return *unit.table;
    // The next unit rounds otherwise, so it is not taken unasked where the CPU has this one.
    const bool refused = unit.has();
    reasons += (reasons.empty() ? "" : ", and ") + refusal;
    if (refused) break;
  }
  if (reasons.empty()) reasons = "this build has no instructions for bf16";
  throw std::invalid_argument(reasons + "; use float32, or choose one of FASTLENET_BF16=" + join(units_available()) +
                              ", of which the emulations are slow");
}

}  // namespace

std::vector<std::string> units_built() { return names_built(kUnits); }
std::vector<std::string> units_available() { return names_available(kUnits); }

const LowPrecisionTable& unit_named(const std::string& name) { return choice_named(kUnits, "unit", name); }

const LowPrecisionTable& unit() {
  if (const LowPrecisionTable* table = current.load(std::memory_order_acquire)) return *table;
  const std::lock_guard<std::mutex> lock(choosing);
  if (const LowPrecisionTable* table = current.load(std::memory_order_acquire)) return *table;
  const LowPrecisionTable& table = choose();
  current.store(&table, std::memory_order_release);
  return table;
}

std::string unit_in_use() {
  const LowPrecisionTable* table = current.load(std::memory_order_acquire);
  return table != nullptr ? table->name : "";
}

void set_unit(const std::string& name) { current.store(name.empty() ? nullptr : &unit_named(name), std::memory_order_release); }

void count_repeats(std::int64_t repeats) {
  if (repeats != 0) repeated.fetch_add(repeats, std::memory_order_relaxed);
}

std::int64_t repeats_counted() { return repeated.load(std::memory_order_relaxed); }

TileLosses planted_losses() {
  return {losses_every.load(std::memory_order_relaxed), losses_times.load(std::memory_order_relaxed)};
}

void plant_losses(TileLosses losses) {
  losses_every.store(losses.every, std::memory_order_relaxed);
  losses_times.store(losses.times, std::memory_order_relaxed);
}

}  // namespace fastlenet
