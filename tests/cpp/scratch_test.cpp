// Tests of the scratch memory: arrays start on cache lines and do not overlap, a worker's arrays stay in one place from op to
// op, whatever the sizes, and the memory does not grow with the product of unlike ops' sizes. g++ -std=c++17
// tests/cpp/scratch_test.cpp cpp/machine/scratch.cpp
#include "../../cpp/machine/scratch.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

namespace {

void expect(bool held, const char* what) {
  if (held) return;
  std::fprintf(stderr, "scratch_test: failed: %s\n", what);
  std::exit(1);
}

constexpr int kWorkers = 3;

// An op that wants a shared array, and two arrays for each worker.
struct Op {
  std::int64_t shared_size, x_size, y_size;
  float* shared = nullptr;
  fastlenet::PerWorker<float> x{};
  fastlenet::PerWorker<std::int32_t> y{};

  void take(int workers) {
    fastlenet::take_scratch({{shared, shared_size}, {x, workers, x_size}, {y, workers, y_size}});
    std::vector<std::pair<const char*, const char*>> arrays;
    const auto add = [&](const auto* array, std::int64_t size) {
      const char* begin = reinterpret_cast<const char*>(array);
      expect(reinterpret_cast<std::uintptr_t>(begin) % 64 == 0, "an array starts on a cache line");
      for (const auto& [first, last] : arrays) expect(begin >= last || begin + 4 * size <= first, "arrays do not overlap");
      arrays.emplace_back(begin, begin + 4 * size);
    };
    add(shared, shared_size);
    for (int worker = 0; worker < workers; ++worker) add(x[worker], x_size), add(y[worker], y_size);
  }
};

}  // namespace

int main() {
  Op none{0, 0, 0};
  none.take(0);  // nothing to allocate, which aligned_alloc may answer with null
  Op small{5, 7, 9}, wide{1000, 3, 1}, large{1, 300, 500};
  for (Op* op : {&small, &wide, &large}) op->take(kWorkers);
  // Now the memory has its size.
  const float* places[kWorkers];
  large.take(kWorkers);
  for (int worker = 0; worker < kWorkers; ++worker) places[worker] = large.x[worker];
  for (Op* op : {&small, &wide, &large}) {
    for (int workers = 1; workers <= kWorkers; ++workers) {
      op->take(workers);
      for (int worker = 0; worker < workers; ++worker) {
        expect(op->x[worker] == places[worker], "a worker's first array is at the same place in every op");
      }
    }
  }
  // One worker with a large part, then many workers with small ones: 256 TiB, if each of them got a large part.
  Op one{0, std::int64_t{1} << 28, 0}, many{0, 16, 0};
  fastlenet::take_scratch({{one.x, 1, one.x_size}});
  fastlenet::take_scratch({{many.x, 1 << 18, many.x_size}});
  many.x[(1 << 18) - 1][15] = 1.0f;
  // An op that gets no memory leaves the rest usable.
  bool refused = false;
  try {
    fastlenet::take_scratch({{one.x, 1, std::int64_t{1} << 50}});
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  expect(refused, "an op that wants 4 PiB is refused");
  for (Op* op : {&small, &wide, &large}) {
    op->take(kWorkers);
    op->x[kWorkers - 1][op->x_size - 1] = 1.0f;
  }
  std::puts("scratch_test: passed");
}
