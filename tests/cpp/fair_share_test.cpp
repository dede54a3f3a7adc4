// FairShare on a made-up clock and made-up switches. tests/machine/test_fair_share.py compiles and runs it.
#include "../../cpp/machine/fair_share.hpp"

#include <cstdio>
#include <cstdlib>

namespace {

void expect(bool condition, const char* what) {
  if (!condition) {
    std::fprintf(stderr, "fair_share_test: failed: %s\n", what);
    std::exit(1);
  }
}

// A machine on which more than `free_cpus` threads are switched 4,400 times a second, others 60 times.
class Machine {
 public:
  // Runs jobs of 100 us for so long. Returns the mean number of threads.
  double run(int all, int free_cpus, double seconds) {
    double sum = 0, jobs = 0;
    for (const double end = now_ + seconds; now_ < end; now_ += 1e-4) {
      const int threads = fair_.threads(all, now_, [&] { return static_cast<std::int64_t>(switches_); });
      expect(threads >= 1 && threads <= all, "at least one thread, and at most all");
      switches_ += 1e-4 * (threads > free_cpus ? 4400 : 60);
      sum += threads;
      ++jobs;
    }
    return sum / jobs;
  }

  void wait(double seconds, double switches) {
    now_ += seconds;
    switches_ += switches;
  }

 private:
  fastlenet::FairShare fair_;
  double now_ = 1000, switches_ = 12345;
};

}  // namespace

int main() {
  Machine alone;
  expect(alone.run(2, 2, 5) == 2, "a training alone uses all threads at all times");

  Machine shared;
  expect(shared.run(2, 1, 10) < 1.03, "beside a busy process, one of two threads rests for 97 % of the time");
  shared.run(2, 2, 1.4);
  expect(shared.run(2, 2, 1) == 2, "both threads return within 1.4 s after the other process has ended");
  expect(shared.run(2, 1, 0.1) < 1.4, "and yield within 40 ms to the next one");

  Machine large;
  large.run(64, 60, 1);
  expect(large.run(64, 60, 10) > 52, "one busy process does not take most of 64 threads away");

  Machine crowded;
  crowded.run(8, 2, 0.2);
  expect(crowded.run(8, 2, 10) < 2.1, "threads that the CPUs have no room for rest");
  expect(crowded.run(1, 2, 1) == 1 && crowded.run(2, 2, 3) > 1.9, "a smaller number of threads forgets those held back");

  Machine idle;
  idle.run(2, 2, 0.05);
  for (int pause = 0; pause < 100; ++pause) {
    idle.wait(0.5, 4000);  // work of another kind
    expect(idle.run(2, 2, 0.005) == 2, "what happens between two calls far apart says nothing");
  }
  std::puts("fair_share_test: passed");
  return 0;
}
