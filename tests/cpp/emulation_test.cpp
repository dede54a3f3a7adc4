// What the emulation must not let pass: each kernel here breaks one rule, in a process of its own, which must end with the
// line that names it. And what it must do right: warps, votes, shared memory, limits.
//
//     g++ -std=c++17 -march=x86-64-v3 -Icuda/emulation tests/cpp/emulation_test.cpp cuda/emulation/*.cpp
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "../../cuda/cuda_ops.hpp"
#include "launch.cuh"

namespace fastlenet::cuda {

void check_launch(const char* name) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw DeviceError(std::string(name) + ": " + cudaGetErrorString(error));
}

}  // namespace fastlenet::cuda

namespace {

using fastlenet::cuda::block_shared;
using fastlenet::cuda::launch;

constexpr unsigned kAll = 0xFFFFFFFFu;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "FAILED: %s\n", message.c_str());
  std::exit(1);
}

struct Numbers {
  float of[64];
};

__global__ void some_wait(int) {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void two_places(int) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void some_lanes(int) {
  if (threadIdx.x % 2 == 0) __shfl_xor_sync(kAll, 1.0f, 1);
}

__global__ void not_in_mask(int) { __ballot_sync(0xFFFF, 1); }

__global__ void unlike_masks(int) { __ballot_sync(threadIdx.x % 32 == 3 ? kAll : kAll - 1, 1); }

__global__ void beyond_the_block(int) { __ballot_sync(kAll, 1); }

struct Large {
  float of[49 * 256];
};
__global__ void too_much_shared(int) { block_shared<Large>().of[0] = 1.0f; }

// Runs a kernel that must end the process with that message.
void expect_stop(const char* message, void (*kernel)(int), unsigned threads) {
  int ends[2];
  if (pipe(ends) != 0) fail("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    launch("kernel", kernel, 1, threads, nullptr, 0);
    std::exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[512];
  for (ssize_t count; (count = read(ends[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) fail(std::string("not stopped: ") + message);
  if (text.find(message) == std::string::npos) fail("expected \"" + std::string(message) + "\", got: " + text);
}

// Without its barrier a thread would read what its neighbour has not written.
__global__ void neighbours(float* y, bool* poisoned) {
  Numbers& numbers = block_shared<Numbers>();
  if (numbers.of[threadIdx.x] == numbers.of[threadIdx.x]) *poisoned = false;
  numbers.of[threadIdx.x] = static_cast<float>(blockIdx.x * 100 + threadIdx.x);
  __syncthreads();
  y[blockIdx.x * blockDim.x + threadIdx.x] = numbers.of[(threadIdx.x + 1) % blockDim.x];
}

__global__ void warp_sums(float* sums, unsigned* votes) {
  float value = static_cast<float>(threadIdx.x);
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAll, value, lanes);
  sums[threadIdx.x] = value;
  votes[threadIdx.x] = __ballot_sync(kAll, threadIdx.x % 3 == 0);
}

void expect_right_results() {
  for (const std::string& order : fastlenet::cuda::thread_orders()) {
    fastlenet::cuda::set_thread_order(order);
    float y[128];
    bool poisoned = true;
    launch("neighbours", neighbours, 2, 64, nullptr, &y[0], &poisoned);
    for (int i = 0; i < 128; ++i) {
      if (y[i] != static_cast<float>(i / 64 * 100 + (i + 1) % 64)) fail("a barrier does not hold, order " + order);
    }
    if (!poisoned) fail("shared memory does not begin as NaN");
    float sums[64];
    unsigned votes[64];
    launch("warp_sums", warp_sums, 1, 64, nullptr, &sums[0], &votes[0]);
    for (int i = 0; i < 64; ++i) {
      if (sums[i] != (i < 32 ? 496.0f : 1520.0f)) fail("a shuffle is wrong, order " + order);
      if (votes[i] != (i < 32 ? 0x49249249u : 0x92492492u)) fail("a vote is wrong, order " + order);
    }
  }
}

void expect_limits() {
  for (const auto& [grid, block] : {std::pair<dim3, dim3>{1, 1025},
                                    {1, dim3(32, 64)},
                                    {1, dim3(1, 1, 65)},
                                    {0, 32},
                                    {1, 0},
                                    {dim3(1, 65536), 32},
                                    {dim3(1, 1, 65536), 32}}) {
    try {
      launch("kernel", some_lanes, grid, block, nullptr, 0);
    } catch (const fastlenet::cuda::DeviceError& error) {
      if (std::string(error.what()) == "kernel: invalid configuration argument") continue;
    }
    fail("a launch past the limits of the hardware went through");
  }
}

}  // namespace

int main() {
  expect_stop("thread (40, 0, 0): waits in __syncthreads", two_places, 64);
  expect_stop("waits in __syncthreads at", some_wait, 64);
  expect_stop("thread (40, 0, 0) has exited", some_wait, 64);
  expect_stop("waits in __shfl_xor_sync at", some_lanes, 64);
  expect_stop("its mask leaves out the calling lane", not_in_mask, 64);
  expect_stop("__ballot_sync", unlike_masks, 32);
  expect_stop("its mask names a lane that the block does not have", beyond_the_block, 48);
  expect_stop("more than 48 KiB of shared memory", too_much_shared, 32);
  expect_right_results();
  expect_limits();
  std::puts("the emulation stops what it must, and does right what it may");
  return 0;
}
