// The machine's multiply-add peak, which the benchmarks divide by.
#include <chrono>
#include <vector>

#include "../machine/isa.hpp"
#include "../machine/parallel.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

double multiply_add_peak(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  const KernelTable& table = kernels();
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const int before = num_threads();
  set_num_threads(threads);
  parallel_for(threads, [&](std::int64_t task) {
    double operations = 0.0, total = 0.0, elapsed = 0.0;
    volatile float keep = 0.0f;
    const Clock::time_point start = Clock::now();
    do {
      keep = table.multiply_add_peak(2000, &operations);
      total += operations;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    } while (elapsed < seconds);
    static_cast<void>(keep);
    rates[static_cast<std::size_t>(task)] = total / elapsed;
  });
  set_num_threads(before);
  double sum = 0.0;
  for (double rate : rates) sum += rate;
  return sum;
}

}  // namespace fastlenet::cpu
