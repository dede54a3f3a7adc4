// The thread pool. No other part of the project starts threads.
#pragma once

#include <cstdint>
#include <string>

namespace fastlenet {

// The number of threads that parallel_for uses, including the caller's. Until set_num_threads is called, it is
// FASTLENET_NUM_THREADS, else OMP_NUM_THREADS, else the smaller of the affinity mask and the cgroup's CPU quota.
int num_threads();
void set_num_threads(int count);  // count >= 1

// The tightest CPU quota of this process's cgroup and its ancestors, version 2 (cpu.max) or 1 (cpu.cfs_quota_us), in whole CPUs
// but at least 1; 0 if there is no quota. /proc and /sys are looked up in `root`, which is "" except in tests.
int cgroup_cpus(const std::string& root);

// How often a parallel_for has shared its tasks among several threads, and so has waited for them, in this process.
std::uint64_t barriers();

namespace detail {
void parallel_for(std::int64_t tasks, int workers, void (*body)(void* context, std::int64_t task, int worker), void* context);
}

// The number of threads that a parallel_for over so many tasks uses, at least 1.
int workers_for(std::int64_t tasks);

// Calls body(task, worker) for every task in 0..tasks-1, on several threads, and returns when all are done. worker is in
// 0..workers-1, and no two tasks that run at the same time have the same one: it numbers the scratch memory that a task may
// use.
//
// Each worker first gets an equal share of neighbouring tasks, the same in every call, so that the outputs of one op are in its
// cache for the next. It claims its tasks one by one. A worker that finishes early takes tasks of the others, so that a slow
// core does fewer. Every task must own its outputs, since any thread may run it. A call from inside a task, or while another
// thread's call is running, runs serially. body must not throw.
template <typename Body>
void parallel_for(std::int64_t tasks, int workers, const Body& body) {
  detail::parallel_for(
      tasks, workers, [](void* context, std::int64_t task, int worker) { (*static_cast<const Body*>(context))(task, worker); },
      const_cast<Body*>(&body));
}

// The same for tasks that need no scratch memory.
template <typename Body>
void parallel_for(std::int64_t tasks, const Body& body) {
  parallel_for(tasks, workers_for(tasks), [&](std::int64_t task, int) { body(task); });
}

}  // namespace fastlenet
