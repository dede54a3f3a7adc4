// Replaces the toolkit's header of this name on the CPU: the part of CUDA C++ and its runtime that the kernels and cuda_ops
// use. Names, signatures and error numbers are NVIDIA's (CUDA Runtime API 13.0; Programming Guide, C++ language extensions).
//
// The emulation runs one kernel at a time, in the thread that launches it. The caller holds Python's GIL, so the state is
// global.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct uint3 {
  unsigned x, y, z;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// --- what threads of a block do together ---------------------------------------------------------------------------------

namespace fastlenet::emulation {

// The source line at which a thread waits. Threads that wait at different places have diverged.
struct Place {
  const char* file;
  int line;
};

void wait_for_block(Place place);
// Waits for the lanes in `mask`. Returns the values of the 32 lanes.
const std::uint64_t* exchange(unsigned mask, std::uint64_t value, const char* what, Place place);

template <typename Value>
Value shuffle(unsigned mask, Value value, unsigned lane, const char* what, Place place) {
  static_assert(sizeof(Value) == 4 || sizeof(Value) == 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(Value));
  const std::uint64_t* all = exchange(mask, bits, what, place);
  std::memcpy(&value, &all[lane], sizeof(Value));
  return value;
}

unsigned lane();

}  // namespace fastlenet::emulation

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  fastlenet::emulation::wait_for_block({file, line});
}

template <typename Value>
Value __shfl_xor_sync(unsigned mask, Value value, int lanes, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned from = fastlenet::emulation::lane() ^ static_cast<unsigned>(lanes);
  return fastlenet::emulation::shuffle(mask, value, from, "__shfl_xor_sync", {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const std::uint64_t* all = fastlenet::emulation::exchange(mask, predicate != 0, "__ballot_sync", {file, line});
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i) votes |= (mask >> i & 1) && all[i] ? 1u << i : 0u;
  return votes;
}

inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

// --- the runtime -----------------------------------------------------------------------------------------------------------

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum cudaMemoryType { cudaMemoryTypeUnregistered = 0, cudaMemoryTypeHost = 1, cudaMemoryTypeDevice = 2 };

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
};
using cudaStream_t = struct CUstream_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaMalloc(void** pointer, std::size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
