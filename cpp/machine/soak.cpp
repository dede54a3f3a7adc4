#include "soak.hpp"

#include <sched.h>

#include <chrono>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "units.hpp"

namespace fastlenet {

namespace {

using Clock = std::chrono::steady_clock;

void wait_yielding(void*) { sched_yield(); }

void wait_spinning(void*) {
  for (int i = 0; i < 20000; ++i) asm volatile("" ::: "memory");
}

void wait_sleeping(void*) { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

}  // namespace

// These threads are not those of the pool, whose number is at most that of the cores: here they must be more.
SoakCount soak(const std::string& name, int threads, double seconds, SoakWait wait, TileLosses losses) {
  const LowPrecisionTable& table = unit_named(name);
  if (table.soak == nullptr) throw std::invalid_argument(name + " has no tiles");
  const auto waiting = wait == SoakWait::yield ? wait_yielding : wait == SoakWait::spin ? wait_spinning : wait_sleeping;
  const Clock::time_point end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::vector<SoakCount> counts(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  const auto join = [&] {
    for (std::thread& thread : running) thread.join();
  };
  try {
    for (SoakCount& count : counts) {
      running.emplace_back([&] {
        do {
          const SoakCount more = table.soak(200, waiting, nullptr, losses);
          count.rounds += more.rounds, count.lost += more.lost, count.undetected += more.undetected;
        } while (Clock::now() < end);
      });
    }
  } catch (const std::system_error&) {
    join();
    throw;
  }
  join();
  SoakCount total;
  for (const SoakCount& count : counts) {
    total.rounds += count.rounds, total.lost += count.lost, total.undetected += count.undetected;
  }
  return total;
}

}  // namespace fastlenet
