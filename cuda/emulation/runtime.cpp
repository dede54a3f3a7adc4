// The emulated runtime: memory, copies, graphs, and a device that fails on request, to test the errors.
//
//   FASTLENET_EMULATION_DEVICES=0         there is no device
//   FASTLENET_EMULATION_MEMORY=BYTES      allocations beyond this total fail
//   FASTLENET_EMULATION_LOST=NUMBER       from this launch or copy on, every one fails, as on a lost device
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "recording.hpp"

using Work = std::vector<std::function<void()>>;

struct CUgraph_st {
  Work work;
};
struct CUgraphExec_st {
  Work work;
};

namespace fastlenet::emulation {

namespace {

std::size_t setting(const char* name, std::size_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Runtime {
  std::map<const char*, std::size_t> memory;  // begin, bytes
  std::size_t used = 0;
  std::size_t total = setting("FASTLENET_EMULATION_MEMORY", std::size_t{4} << 30);
  std::size_t devices = setting("FASTLENET_EMULATION_DEVICES", 1);
  std::size_t lost = setting("FASTLENET_EMULATION_LOST", ~std::size_t{0});
  std::size_t submitted = 0;
  cudaError_t error = cudaSuccess;
  CUgraph_st* capture = nullptr;
};

Runtime& runtime() {
  static Runtime& instance = *new Runtime;  // never destroyed, as in emulator.cpp
  return instance;
}

bool is_lost() { return runtime().submitted >= runtime().lost; }

}  // namespace

void set_last_error(cudaError_t error) { runtime().error = error; }

void submit(std::function<void()> work) {
  Runtime& r = runtime();
  // A copy to the host is made without Python's GIL.
  static std::recursive_mutex& mutex = *new std::recursive_mutex;
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  ++r.submitted;
  if (is_lost()) return set_last_error(cudaErrorIllegalAddress);
  if (r.capture != nullptr) {
    r.capture->work.push_back(std::move(work));
  } else {
    work();
  }
}

}  // namespace fastlenet::emulation

using fastlenet::emulation::is_lost;
using fastlenet::emulation::runtime;
using fastlenet::emulation::submit;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = runtime().error;
  if (!is_lost()) runtime().error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(runtime().devices);
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  return static_cast<std::size_t>(device) < runtime().devices ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated GPU");
  properties->totalGlobalMem = runtime().total;
  properties->major = 7;
  properties->minor = 5;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

// Allocates each buffer separately, for the address sanitizer, and fills it with NaN, so that reading unwritten memory shows.
cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  auto& r = runtime();
  if (is_lost()) return cudaErrorIllegalAddress;
  if (r.used + bytes > r.total) return r.error = cudaErrorMemoryAllocation;
  if (posix_memalign(pointer, 256, bytes) != 0) return r.error = cudaErrorMemoryAllocation;
  std::memset(*pointer, 0xFF, bytes);
  r.memory[static_cast<const char*>(*pointer)] = bytes;
  r.used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  auto& r = runtime();
  const auto found = r.memory.find(static_cast<const char*>(pointer));
  if (found == r.memory.end()) return r.error = cudaErrorInvalidValue;
  r.used -= found->second;
  r.memory.erase(found);
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = runtime().total - runtime().used;
  *total = runtime().total;
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const auto& memory = runtime().memory;
  const char* at = static_cast<const char*>(pointer);
  auto found = memory.upper_bound(at);
  const bool ours = found != memory.begin() && at < std::prev(found)->first + std::prev(found)->second;
  *attributes = {ours ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered, ours ? 0 : -1};
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  submit([=] { std::memmove(to, from, bytes); });
  return is_lost() ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
  submit([=] { std::memset(to, value, bytes); });
  return is_lost() ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return is_lost() ? cudaErrorIllegalAddress : cudaSuccess; }

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  runtime().capture = new CUgraph_st;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(runtime().capture, nullptr);
  return is_lost() ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  submit([executable] {
    for (const auto& work : executable->work) work();
  });
  return is_lost() ? cudaErrorIllegalAddress : cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
