// Runs kernels: blocks one after the other, the threads of a block as fibers. A fiber runs until it waits for others.
//
// Some errors that a GPU does not report end the process here, with one line that names the error and the place: not all
// threads of the block reach a barrier; not all lanes of a warp operation's mask join it; a lane outside the mask joins it.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cuda_ops.hpp"
#include "fiber.hpp"
#include "launch.cuh"
#include "recording.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace fastlenet::emulation {

namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kSharedLimit = 48 * 1024;  // the static shared memory of a block on every architecture

enum class State { kReady, kAtBarrier, kAtExchange, kExited };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  State state = State::kExited;
  uint3 index{};
  Place place{};
  const char* what = nullptr;
  unsigned mask = 0;
  unsigned exchanges = 0;
};

// The values of the lanes of a warp in an exchange. Two sets alternate: a lane reaches the next exchange but one only after all
// others have read from this one. Therefore all lanes of a warp must take part in the same exchanges, which a GPU does not
// require.
struct Warp {
  std::uint64_t values[2][kWarp];
};

struct SharedVariable {
  const void* key;
  std::size_t bytes;
  std::unique_ptr<char[]> memory;
};

struct Emulator {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<Warp> warps;
  std::vector<SharedVariable> shared;
  std::vector<unsigned> warp_order, lane_order;
  const std::function<void()>* body = nullptr;
  const char* kernel = "";
  Thread* current = nullptr;
  unsigned current_number = 0;
  std::string order_name = "forward";
  std::uint64_t random = 0x9E3779B97F4A7C15;
};

const char* const kOrders[] = {"forward", "reverse", "random"};

// FASTLENET_EMULATION_ORDER is the order of the threads; FASTLENET_EMULATION_SEED seeds the order "random".
Emulator* make_emulator() {
  Emulator* made = new Emulator;
  if (const char* seed = std::getenv("FASTLENET_EMULATION_SEED")) made->random ^= std::strtoull(seed, nullptr, 10);
  if (const char* name = std::getenv("FASTLENET_EMULATION_ORDER")) made->order_name = name;
  if (std::find(std::begin(kOrders), std::end(kOrders), made->order_name) == std::end(kOrders)) {
    throw std::invalid_argument("FASTLENET_EMULATION_ORDER expects forward, reverse or random, got " + made->order_name);
  }
  return made;
}

// Never destroyed, since a device array may outlive every static variable.
Emulator& emulator() {
  static Emulator& instance = *make_emulator();
  return instance;
}

// The bytes of a NaN in float, and an unusable number in other types: an index out of range.
constexpr unsigned char kPoison = 0xFF;

[[noreturn]] void stop(const Thread& thread, const std::string& message) {
  const Emulator& e = emulator();
  std::fprintf(stderr, "CUDA emulation: %s, block (%u, %u, %u), thread (%u, %u, %u): %s\n", e.kernel, blockIdx.x, blockIdx.y,
               blockIdx.z, thread.index.x, thread.index.y, thread.index.z, message.c_str());
  std::fflush(stderr);
  std::abort();
}

std::string at(Place place) { return std::string(place.file) + ":" + std::to_string(place.line); }

std::string whereabouts(const Thread& thread) {
  if (thread.state == State::kExited) return "has exited";
  if (thread.state == State::kReady) return "runs";
  return std::string("waits in ") + (thread.state == State::kAtBarrier ? "__syncthreads" : thread.what) + " at " +
         at(thread.place);
}

void run_thread(void* argument) {
  Thread& thread = *static_cast<Thread*>(argument);
  for (;;) {
    (*emulator().body)();
    thread.state = State::kExited;
    thread.fiber->yield();
  }
}

std::uint64_t next_random() {  // xorshift64
  std::uint64_t& x = emulator().random;
  x ^= x << 13;
  x ^= x >> 7;
  return x ^= x << 17;
}

void shuffle(std::vector<unsigned>& numbers) {
  for (std::size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[next_random() % i]);
}

// The order in which warps, and the lanes of each, run until all wait at a barrier.
void renew_order() {
  Emulator& e = emulator();
  if (e.order_name != "random") return;
  shuffle(e.warp_order);
  shuffle(e.lane_order);
}

void first_order(unsigned warps) {
  Emulator& e = emulator();
  const bool reverse = e.order_name == "reverse";
  e.warp_order.resize(warps);
  e.lane_order.resize(kWarp);
  for (unsigned i = 0; i < warps; ++i) e.warp_order[i] = reverse ? warps - 1 - i : i;
  for (unsigned i = 0; i < kWarp; ++i) e.lane_order[i] = reverse ? kWarp - 1 - i : i;
  renew_order();
}

// Continues the lanes of a warp for which all lanes of their mask have arrived. Returns whether there were any.
bool finish_exchange(unsigned warp, unsigned count) {
  Emulator& e = emulator();
  bool any = false;
  for (unsigned number = warp * kWarp; number < std::min((warp + 1) * kWarp, count); ++number) {
    Thread& thread = *e.threads[number];
    if (thread.state != State::kAtExchange) continue;
    bool complete = true;
    for (unsigned lane = 0; lane < kWarp && complete; ++lane) {
      if (!(thread.mask >> lane & 1)) continue;
      const unsigned other = warp * kWarp + lane;
      if (other >= count) stop(thread, std::string(thread.what) + ": its mask names a lane that the block does not have");
      const Thread& partner = *e.threads[other];
      complete = partner.state == State::kAtExchange;
      const bool alike = partner.mask == thread.mask && partner.what == thread.what &&
                         partner.place.line == thread.place.line && partner.exchanges == thread.exchanges;
      if (complete && !alike) {
        stop(thread, "waits in " + std::string(thread.what) + " at " + at(thread.place) + ", but lane " + std::to_string(lane) +
                         " of its warp " + whereabouts(partner));
      }
    }
    if (!complete) continue;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if (thread.mask >> lane & 1) e.threads[warp * kWarp + lane]->state = State::kReady;
    }
    any = true;
  }
  return any;
}

// Continues the threads of a block, which must all wait at the same barrier. Returns false if all of them have exited.
bool finish_barrier(unsigned count) {
  Emulator& e = emulator();
  const Thread& first = *e.threads[0];
  for (unsigned i = 0; i < count; ++i) {
    const Thread& thread = *e.threads[i];
    const bool alike =
        thread.state == first.state &&
        (thread.state == State::kExited || (thread.place.file == first.place.file && thread.place.line == first.place.line));
    if (!alike || thread.state == State::kAtExchange) {
      const Thread& waiting = thread.state == State::kExited ? first : thread;
      const Thread& other = thread.state == State::kExited ? thread : first;
      stop(waiting, whereabouts(waiting) + " for ever, thread (" + std::to_string(other.index.x) + ", " +
                        std::to_string(other.index.y) + ", " + std::to_string(other.index.z) + ") " + whereabouts(other));
    }
  }
  if (first.state == State::kExited) return false;
  for (unsigned i = 0; i < count; ++i) e.threads[i]->state = State::kReady;
  return true;
}

void resume(unsigned number) {
  Emulator& e = emulator();
  e.current = e.threads[number].get();
  e.current_number = number;
  threadIdx = e.current->index;
  e.current->fiber->resume();
}

// Runs a warp until its threads wait at a barrier or have exited.
void run_warp(unsigned warp, unsigned count) {
  Emulator& e = emulator();
  do {
    for (unsigned lane : e.lane_order) {
      const unsigned number = warp * kWarp + lane;
      if (number < count && e.threads[number]->state == State::kReady) resume(number);
    }
  } while (finish_exchange(warp, count));
}

void run_block(unsigned count) {
  Emulator& e = emulator();
  for (SharedVariable& variable : e.shared) std::memset(variable.memory.get(), kPoison, variable.bytes);
  for (unsigned i = 0; i < count; ++i) e.threads[i]->state = State::kReady;
  first_order(static_cast<unsigned>(e.warps.size()));
  do {
    for (unsigned warp : e.warp_order) run_warp(warp, count);
    renew_order();
  } while (finish_barrier(count));
}

void make_threads(dim3 block) {
  Emulator& e = emulator();
  const unsigned count = block.x * block.y * block.z;
  while (e.threads.size() < count) {
    e.threads.push_back(std::make_unique<Thread>());
    e.threads.back()->fiber = std::make_unique<Fiber>(run_thread, e.threads.back().get());
  }
  for (unsigned i = 0; i < count; ++i) {
    e.threads[i]->index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    e.threads[i]->exchanges = 0;
  }
  e.warps.resize((count + kWarp - 1) / kWarp);
}

// The limits that all architectures since 7.5 share (Programming Guide, compute capabilities).
bool within_limits(dim3 grid, dim3 block) {
  const bool block_fits = block.x >= 1 && block.y >= 1 && block.z >= 1 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                          block.x * block.y * block.z <= 1024;
  return block_fits && grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535;
}

}  // namespace

void wait_for_block(Place place) {
  Thread& thread = *emulator().current;
  thread.state = State::kAtBarrier;
  thread.place = place;
  thread.fiber->yield();
}

const std::uint64_t* exchange(unsigned mask, std::uint64_t value, const char* what, Place place) {
  Emulator& e = emulator();
  Thread& thread = *e.current;
  const unsigned own = lane();
  if (!(mask >> own & 1)) stop(thread, std::string(what) + " at " + at(place) + ": its mask leaves out the calling lane");
  std::uint64_t* values = e.warps[e.current_number / kWarp].values[thread.exchanges++ % 2];
  values[own] = value;
  thread.state = State::kAtExchange;
  thread.place = place;
  thread.what = what;
  thread.mask = mask;
  thread.fiber->yield();
  return values;
}

unsigned lane() { return emulator().current_number % kWarp; }

void* shared(const void* key, std::size_t bytes) {
  Emulator& e = emulator();
  std::size_t total = bytes;
  for (const SharedVariable& variable : e.shared) {
    if (variable.key == key) return variable.memory.get();
    total += variable.bytes;
  }
  if (total > kSharedLimit) stop(*e.current, "more than 48 KiB of shared memory: " + std::to_string(total) + " bytes");
  e.shared.push_back({key, bytes, std::make_unique<char[]>(bytes)});
  std::memset(e.shared.back().memory.get(), kPoison, bytes);
  return e.shared.back().memory.get();
}

void run(const char* name, dim3 grid, dim3 block, const std::function<void()>& thread) {
  Emulator& e = emulator();
  e.kernel = name;
  e.body = &thread;
  make_threads(block);
  blockDim = block;
  gridDim = grid;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(block.x * block.y * block.z);
    }
  }
  e.shared.clear();
}

void launch(const char* name, dim3 grid, dim3 block, std::function<void()> thread) {
  if (!within_limits(grid, block)) return set_last_error(cudaErrorInvalidConfiguration);
  submit([=] { run(name, grid, block, thread); });
}

}  // namespace fastlenet::emulation

namespace fastlenet::cuda {

std::vector<std::string> thread_orders() { return {std::begin(emulation::kOrders), std::end(emulation::kOrders)}; }

void set_thread_order(const std::string& name) { emulation::emulator().order_name = name; }

}  // namespace fastlenet::cuda
