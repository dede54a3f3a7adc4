// The thread pool on its own, for ThreadSanitizer: every task runs once, its writes are seen by the caller, whatever the
// thread count, from several callers, nested, and in a forked child.
//
//     g++ -std=c++17 -O1 -g -fsanitize=thread -pthread cpp/machine/parallel.cpp tests/cpp/pool_test.cpp -o pool_test &&
//     ./pool_test
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../../cpp/machine/parallel.hpp"

namespace {

void expect(bool condition, const char* what) {
  if (!condition) {
    std::fprintf(stderr, "pool_test: failed: %s\n", what);
    std::_Exit(1);
  }
}

// Plain, unsynchronised memory: only the pool's own ordering makes these reads and writes safe.
void every_task_runs_once(int tasks) {
  std::vector<int> count(static_cast<std::size_t>(tasks), 0);
  fastlenet::parallel_for(tasks, [&](std::int64_t task) { ++count[static_cast<std::size_t>(task)]; });
  for (int value : count) expect(value == 1, "every task runs exactly once");
}

void nested_calls_work() {
  std::vector<int> count(64, 0);
  fastlenet::parallel_for(8, [&](std::int64_t outer) {
    fastlenet::parallel_for(8, [&](std::int64_t inner) { ++count[static_cast<std::size_t>(outer * 8 + inner)]; });
  });
  for (int value : count) expect(value == 1, "a nested task runs exactly once");
}

void callers_at_once() {
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([] {
      for (int round = 0; round < 200; ++round) every_task_runs_once(round % 17);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// Tasks of 1 ms each, so that sleeping workers are woken and idle ones fall asleep between the rounds. Beside other processes
// the pool holds its threads back (fair_share.hpp), and a round may go without them. In two minutes, five must have had them.
void sleeping_workers_wake() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  for (int rounds = 0; rounds < 5;) {
    expect(std::chrono::steady_clock::now() < end, "another thread takes part");
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::vector<std::thread::id> ids(8);
    fastlenet::parallel_for(8, [&](std::int64_t task) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ids[static_cast<std::size_t>(task)] = std::this_thread::get_id();
    });
    bool helped = false;
    for (std::thread::id id : ids) helped = helped || id != std::this_thread::get_id();
    rounds += helped;
  }
}

void forked_child_works() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);  // a hang is a failure
    every_task_runs_once(100);
    std::_Exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child has a pool of its own");
}

}  // namespace

int main() {
  for (int threads : {1, 2, 3, 8}) {
    fastlenet::set_num_threads(threads);
    expect(fastlenet::num_threads() == threads, "set_num_threads is obeyed");
    for (int round = 0; round < 300; ++round) every_task_runs_once(round % 40);
    nested_calls_work();
    callers_at_once();
  }
  sleeping_workers_wake();
  forked_child_works();
  std::puts("pool_test: passed");
  return 0;
}
