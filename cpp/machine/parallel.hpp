// The thread pool: the only threads in the project.
#pragma once

#include <cstdint>
#include <string>

namespace fastlenet {

// Threads that a parallel_for uses, the caller's included. Until set_num_threads: FASTLENET_NUM_THREADS, else
// OMP_NUM_THREADS, else the smaller of the affinity mask and the cgroup's CPU quota.
int num_threads();
void set_num_threads(int count);  // count >= 1

// The tightest CPU quota of this process's cgroup and its ancestors, version 2 (cpu.max) or 1 (cpu.cfs_quota_us), in whole CPUs
// but at least 1; 0 without any. /proc and /sys lie in `root`: "", but for tests.
int cgroup_cpus(const std::string& root);

namespace detail {
void parallel_for(std::int64_t tasks, int workers, void (*body)(void* context, std::int64_t task, int worker), void* context);
}

// How many threads a parallel_for over so many tasks occupies, at least 1.
int workers_for(std::int64_t tasks);

// Calls body(task, worker) for every task in 0..tasks-1, on several threads, and returns when all are done. No two calls at a
// time have the same worker, in 0..workers-1: it numbers the scratch memory that a task may use.
//
// Each worker has an equal share of neighbouring tasks, which is the same in every call: what it wrote in one op is in its
// cache for the next. Tasks are claimed one by one, and those that finish early take over from the others, so that a slow core
// does fewer. Results must not depend on which thread runs what: every task owns its outputs. A call from inside a task, or
// while another thread's call is running, works serially. body must not throw.
template <typename Body>
void parallel_for(std::int64_t tasks, int workers, const Body& body) {
  detail::parallel_for(
      tasks, workers, [](void* context, std::int64_t task, int worker) { (*static_cast<const Body*>(context))(task, worker); },
      const_cast<Body*>(&body));
}

// The same for tasks that need no memory of their own.
template <typename Body>
void parallel_for(std::int64_t tasks, const Body& body) {
  parallel_for(tasks, workers_for(tasks), [&](std::int64_t task, int) { body(task); });
}

}  // namespace fastlenet
