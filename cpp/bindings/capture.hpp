// Captures the ops that a thread calls.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "../machine/parallel.hpp"

namespace fastlenet {

// While a capture is active on a thread, each op that the thread calls is announced by its Call and then recorded by compute().
// An op that is not recorded, because it failed or its binding has no compute(), voids the capture. So does anything else that
// cannot be repeated. The first reason is kept.
class Capture {
 public:
  // The active capture of this thread, or null.
  static Capture* active() { return active_; }

  // Makes a capture the active one during its lifetime.
  class Activation {
   public:
    explicit Activation(Capture& capture) : outer_(std::exchange(active_, &capture)) {}
    ~Activation() { active_ = outer_; }
    Activation(const Activation&) = delete;
    Activation& operator=(const Activation&) = delete;

   private:
    Capture* outer_;
  };

  void announce(const char* op) {
    settle();
    announced_ = op;
    ++ops_;
  }

  void note(std::function<void()> call) {
    note_unless([call = std::move(call)] {
      call();
      return false;
    });
  }

  // A call that ends a launch if it returns true.
  void note_unless(std::function<bool()> call) {
    calls_.push_back(std::move(call));
    announced_ = nullptr;
  }

  void make_void(std::string reason) {
    if (reason_.empty()) reason_ = std::move(reason);
  }

  // Ends the capture. Call it after the last op.
  void finish() {
    settle();
    if (!reason_.empty()) calls_.clear();
  }

  // The number of ops called, and of those recorded.
  std::size_t ops() const { return ops_; }
  std::size_t recorded() const { return calls_.size(); }
  // The reason why the calls cannot be repeated; empty if they can.
  const std::string& reason() const { return reason_; }

  // times: null, or recorded() x kTimes numbers, to which the launches, seconds and barriers of each recorded op are added.
  static constexpr std::size_t kTimes = 3;
  void repeat(double* times) const {
    for (const std::function<bool()>& call : calls_) {
      if (times == nullptr ? call() : timed(call, times)) return;
      if (times != nullptr) times += kTimes;
    }
  }

 private:
  static bool timed(const std::function<bool()>& call, double* times) {
    const std::uint64_t waited = barriers();
    const auto start = std::chrono::steady_clock::now();
    const bool ends = call();
    times[0] += 1;
    times[1] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    times[2] += static_cast<double>(barriers() - waited);
    return ends;
  }

  void settle() {
    if (announced_ == nullptr) return;
    make_void(std::string(announced_) +
              " cannot be captured: it failed, or takes or returns numbers that no launch would renew");
    announced_ = nullptr;
  }

  static inline thread_local Capture* active_ = nullptr;
  const char* announced_ = nullptr;
  std::size_t ops_ = 0;
  std::string reason_;
  std::vector<std::function<bool()>> calls_;
};

}  // namespace fastlenet
