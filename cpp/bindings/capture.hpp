// Captures the ops that a thread calls.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

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

  // The number of ops called.
  std::size_t ops() const { return ops_; }
  // The reason why the calls cannot be repeated; empty if they can.
  const std::string& reason() const { return reason_; }

  void repeat() const {
    for (const std::function<bool()>& call : calls_) {
      if (call()) return;
    }
  }

 private:
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
