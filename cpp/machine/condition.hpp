// A condition variable, for std::mutex.
#pragma once

#include <pthread.h>

#include <mutex>

namespace fastlenet {

// std::condition_variable::wait is a symbol of GCC 12's libstdc++ (GLIBCXX_3.4.30). A wheel that uses it runs only where
// libstdc++ is as new. POSIX's functions are in every C library, and the thread sanitizer knows them.
class Condition {
 public:
  Condition() = default;
  ~Condition() { pthread_cond_destroy(&condition_); }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  void notify_one() { pthread_cond_signal(&condition_); }
  void notify_all() { pthread_cond_broadcast(&condition_); }

  // Returns once `ready` is true, which is only asked while the lock is held.
  template <typename Ready>
  void wait(std::unique_lock<std::mutex>& lock, const Ready& ready) {
    while (!ready()) pthread_cond_wait(&condition_, lock.mutex()->native_handle());
  }

 private:
  pthread_cond_t condition_ = PTHREAD_COND_INITIALIZER;
};

}  // namespace fastlenet
