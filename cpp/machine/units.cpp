#include "units.hpp"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "amx.hpp"

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

struct Unit {
  const LowPrecisionTable* table;
  std::string (*refusal)();  // why it cannot be used here, or ""; may ask the kernel
  bool (*has)();             // asks for nothing
};

std::string never() { return ""; }
bool always() { return true; }

#if defined(__x86_64__)
bool cpu_has_avx512_bf16() {
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

std::string avx512_bf16_refusal() { return cpu_has_avx512_bf16() ? "" : "this CPU has no AVX512_BF16"; }
#endif

// Best first.
const Unit kUnits[] = {
#if defined(__x86_64__)
    {&tdpbf16ps::kernels, amx_refusal, cpu_has_amx},
    {&vdpbf16ps::kernels, avx512_bf16_refusal, cpu_has_avx512_bf16},
#endif
    {&tdpbf16ps_emulated::kernels, never, always},
    {&vdpbf16ps_emulated::kernels, never, always},
};

std::mutex choosing;
std::atomic<const LowPrecisionTable*> current{nullptr};
std::atomic<std::int64_t> repeated{0};
std::atomic<std::int64_t> losses_every{0}, losses_times{0};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const LowPrecisionTable& choose() {
  const char* wanted = std::getenv("FASTLENET_BF16");
  if (wanted != nullptr && *wanted != '\0') {
    try {
      return unit_named(wanted);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("FASTLENET_BF16: ") + error.what());
    }
  }
  std::string reasons;
  for (const Unit& unit : kUnits) {
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

std::vector<std::string> units_built() {
  std::vector<std::string> names;
  for (const Unit& unit : kUnits) names.push_back(unit.table->name);
  return names;
}

std::vector<std::string> units_available() {
  std::vector<std::string> names;
  for (const Unit& unit : kUnits) {
    if (unit.has()) names.push_back(unit.table->name);
  }
  return names;
}

const LowPrecisionTable& unit_named(const std::string& name) {
  for (const Unit& unit : kUnits) {
    if (name != unit.table->name) continue;
    const std::string refusal = unit.refusal();
    if (!refusal.empty()) throw std::invalid_argument(name + " cannot be used: " + refusal);
    return *unit.table;
  }
  throw std::invalid_argument("unknown unit '" + name + "'; built: " + join(units_built()) +
                              "; available on this CPU: " + join(units_available()));
}

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
