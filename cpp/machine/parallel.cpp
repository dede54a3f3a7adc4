#include "parallel.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "condition.hpp"
#include "fair_share.hpp"

namespace fastlenet {

namespace {

// A waiting thread polls this many times before it sleeps. That takes some 50 us, longer than the gaps between the ops of a
// training step.
constexpr int kSpins = 4000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::int64_t involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

// One job at a time. A worker joins in two steps: it increments `active`, then reads `open`. The caller leaves in two steps: it
// clears `open`, then reads `active`. All four are sequentially consistent, so either the worker sees that the job is closed,
// or the caller waits for the worker. A worker that wakes too late finds the job closed and does nothing.
class Pool {
 public:
  void run(std::int64_t tasks, int wanted, void (*body)(void*, std::int64_t, int), void* context) {
    const int threads = std::min(wanted, fair_.threads(num_threads(), seconds(), involuntary_switches));
    if (threads == 1) {
      for (std::int64_t task = 0; task < tasks; ++task) body(context, task, 0);
      return;
    }
    start_workers(threads - 1);
    body_ = body;
    context_ = context;
    helpers_ = threads - 1;
    share_out(tasks, threads);
    open_.store(true);
    generation_.fetch_add(1);
    if (sleepers_.load() > 0) {
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      wake_.notify_all();
    }
    work(0);
    open_.store(false);
    wait_for_helpers();
  }

  // Held by the caller while its job runs.
  std::mutex busy;

 private:
  // A worker's share of the tasks; each has its own cache line.
  struct alignas(64) Share {
    std::atomic<std::int64_t> next{0};
    std::int64_t end = 0;
  };

  void share_out(std::int64_t tasks, int threads) {
    if (static_cast<int>(shares_.size()) != threads) shares_ = std::vector<Share>(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) {
      Share& mine = shares_[static_cast<std::size_t>(i)];
      mine.next.store(tasks * i / threads);
      mine.end = tasks * (i + 1) / threads;
    }
  }

  // First its own share, then the rest of the others' shares.
  void work(int worker) {
    const int threads = static_cast<int>(shares_.size());
    for (int i = 0; i < threads; ++i) {
      Share& from = shares_[static_cast<std::size_t>((worker + i) % threads)];
      for (std::int64_t task = from.next.fetch_add(1); task < from.end; task = from.next.fetch_add(1)) {
        body_(context_, task, worker);
      }
    }
  }

  // As many threads as the system grants. With fewer, the existing ones do all the work.
  void start_workers(int wanted) {
    if (workers_ >= wanted) return;
    // Block signals here, so that they go to the application's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; workers_ < wanted; ++workers_) std::thread(&Pool::worker, this, workers_).detach();
    } catch (const std::system_error&) {
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void worker(int index) {
    std::uint64_t seen = 0;
    while (true) {
      wait_for_job(seen);
      seen = generation_.load();
      active_.fetch_add(1);
      if (open_.load() && index < helpers_) {
        inside_ = true;
        work(index + 1);
        inside_ = false;
      }
      leave();
    }
  }

  // A helper that does not come back may have lost its CPU to another process. The caller then sleeps, so that the system
  // can give the helper this CPU. Both sides are sequentially consistent: either the helper sees that the caller sleeps, or
  // the caller sees that nobody is active.
  void wait_for_helpers() {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (active_.load() == 0) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    caller_sleeps_.store(true);
    left_.wait(lock, [&] { return active_.load() == 0; });
    caller_sleeps_.store(false);
  }

  void leave() {
    if (active_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
      std::lock_guard<std::mutex> lock(sleep_mutex_);
      left_.notify_one();
    }
  }

  void wait_for_job(std::uint64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (generation_.load() != seen) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(sleep_mutex_);
    sleepers_.fetch_add(1);
    wake_.wait(lock, [&] { return generation_.load() != seen; });
    sleepers_.fetch_sub(1);
  }

  FairShare fair_;
  void (*body_)(void*, std::int64_t, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<int> helpers_{0};
  int workers_ = 0;
  std::vector<Share> shares_;
  std::atomic<bool> open_{false};
  std::atomic<int> active_{0};
  std::atomic<std::uint64_t> generation_{0};
  std::atomic<int> sleepers_{0};
  std::mutex sleep_mutex_;
  Condition wake_;
  std::atomic<bool> caller_sleeps_{false};
  Condition left_;

 public:
  // Set while this thread runs tasks, because a nested call must not wait for the pool that its own caller uses.
  static thread_local bool inside_;
};

thread_local bool Pool::inside_ = false;

// Never destroyed, since its threads never end. A forked child has none of these threads and makes its own pool.
std::atomic<Pool*> current{nullptr};
std::mutex creation;

void forget_pool() {
  current.store(nullptr);
  new (&creation) std::mutex;  // another thread may have held it at the fork
  Pool::inside_ = false;
}

Pool& pool() {
  if (Pool* existing = current.load()) return *existing;
  std::lock_guard<std::mutex> lock(creation);
  if (current.load() == nullptr) {
    static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
    static_cast<void>(registered);
    current.store(new Pool);
  }
  return *current.load();
}

// The positive integer in an environment variable, else 0. OMP_NUM_THREADS may be a list for nested levels; its first number
// is used.
int environment_count(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return 0;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  return end != text && (*end == '\0' || *end == ',') && value >= 1 && value <= 4096 ? static_cast<int>(value) : 0;
}

// The CPUs that a quota of `quota` microseconds in each `period` grants; 0 if unlimited.
int quota_count(double quota, double period) {
  return quota > 0 && period > 0 ? std::max(1, static_cast<int>(std::floor(quota / period))) : 0;
}

int smallest_limit(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// The CPUs that this process may use. Only Linux lets a process be bound to some of them.
int affinity_count() {
#if defined(__linux__) && !defined(FASTLENET_PORTABLE)  // tools/portable defines it, to run the other branch on Linux
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

int default_count() {
  if (const int count = environment_count("FASTLENET_NUM_THREADS")) return count;
  if (const int count = environment_count("OMP_NUM_THREADS")) return count;
  return smallest_limit(affinity_count(), cgroup_cpus(""));
}

std::atomic<int> chosen{0};
std::atomic<std::uint64_t> waited{0};

}  // namespace

int num_threads() {
  if (chosen.load() == 0) {
    int unset = 0;
    chosen.compare_exchange_strong(unset, default_count());
  }
  return chosen.load();
}

void set_num_threads(int count) { chosen.store(count); }

std::uint64_t barriers() { return waited.load(std::memory_order_relaxed); }

int cgroup_cpus(const std::string& root) {
  int count = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool version2 = controllers.empty();
    if (!version2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    while (true) {
      const std::string folder = root + "/sys/fs/cgroup" + (version2 ? "" : "/" + controllers) + (path == "/" ? "" : path);
      double quota = 0, period = 0;
      if (version2) {
        std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max 100000" leaves quota at 0
      } else {
        std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
        std::ifstream(folder + "/cpu.cfs_period_us") >> period;
      }
      count = smallest_limit(count, quota_count(quota, period));
      if (path.empty() || path == "/") break;
      path.erase(path.rfind('/'));
    }
  }
  return count;
}

int workers_for(std::int64_t tasks) {
  return static_cast<int>(std::max<std::int64_t>(1, std::min<std::int64_t>(num_threads(), tasks)));
}

void detail::parallel_for(std::int64_t tasks, int workers, void (*body)(void*, std::int64_t, int), void* context) {
  if (workers > 1 && !Pool::inside_) {
    Pool& shared = pool();
    std::unique_lock<std::mutex> lock(shared.busy, std::try_to_lock);
    if (lock.owns_lock()) {
      waited.fetch_add(1, std::memory_order_relaxed);
      Pool::inside_ = true;
      shared.run(tasks, workers, body, context);
      Pool::inside_ = false;
      return;
    }
  }
  for (std::int64_t task = 0; task < tasks; ++task) body(context, task, 0);
}

}  // namespace fastlenet
