// How many threads to use on a machine that other processes use too.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastlenet {

// A job ends when its last thread ends, so one thread that loses its CPU to another process holds up all of them. Beside a busy
// process, two threads on two cores took 1.5 times as long as one. This class holds threads back while others want the CPUs.
// The results are the same for any number of threads.
//
// The sign is the rate of involuntary context switches: a training alone on two cores (Zen 4, Linux 6.18) had 60 per second,
// beside a busy process 4,400, beside another training 6,000. A window of 10 ms with more than `expected` switches is bad:
// it holds a quarter of the threads back, at least one. After a pause, they return one by one. If a window is bad then, it
// holds only the last one back, and the next pause is twice as long, up to 1.28 s: so a trial costs less than a hundredth of
// the time.
class FairShare {
 public:
  static constexpr double kWindow = 0.01, kShortestPause = 0.04, kLongestPause = 1.28;  // seconds

  // The threads to use of `all`, at least 1. now: seconds on a clock that only goes forward. switches(): the involuntary
  // context switches of this process so far; called once per window, since it is a system call.
  template <typename Switches>
  int threads(int all, double now, const Switches& switches) {
    if (now - start_ >= kWindow) end_window(all, now, switches());
    return std::max(1, all - held_);
  }

 private:
  void end_window(int all, double now, std::int64_t switches) {
    const double seconds = now - start_;
    const bool calm = static_cast<double>(switches - switches_) <= expected(all) * seconds;
    // A window that began long ago contains a pause of the caller's and says nothing.
    if (seconds < 4 * kWindow) judge(all, now, calm);
    start_ = now;
    switches_ = switches;
  }

  // Switches per second of a machine that is ours alone: 60 measured on two threads, and interrupts hit each thread's CPU.
  static double expected(int threads) { return 300 + 50.0 * threads; }

  void judge(int all, double now, bool calm) {
    held_ = std::min(held_, all - 1);
    if (!calm && all - held_ > 1) {
      held_ = std::min(all - 1, held_ + (returning_ ? 1 : std::max(1, all / 4)));
      pause_ = std::min(kLongestPause, 2 * pause_);
      until_ = now + pause_;
      returning_ = false;
    } else if (held_ > 0 && now >= until_) {
      --held_;
      returning_ = true;
    } else if (held_ == 0 && now >= until_ + kLongestPause) {
      pause_ = kShortestPause / 2;  // a quiet time since the last trial
      returning_ = false;
    }
  }

  int held_ = 0;
  bool returning_ = false;
  double start_ = 0, until_ = 0, pause_ = kShortestPause / 2;
  std::int64_t switches_ = 0;
};

}  // namespace fastlenet
