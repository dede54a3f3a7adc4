// The host's side of the GPU: memory, the stream and graphs. Every call of the runtime is checked.
#include "cuda_ops.hpp"

#include <cstdio>
#include <map>
#include <mutex>

#include "build.hpp"
#include "device.hpp"

namespace fastlenet::cuda {

namespace {

constexpr int kDevice = 0;
constexpr int kOldestMajor = 7, kOldestMinor = 5;

std::string gigabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

// The state of the device in use; made when the device is first used.
struct Device {
  std::string name;
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;
  std::mutex mutex;
  std::multimap<std::size_t, void*> freed;
  std::vector<Memory>* captured = nullptr;  // owns what is allocated while a graph is captured
};

Device* open_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw DeviceError(std::string("no usable NVIDIA GPU (") +
                      cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error) +
                      "); compute on the CPU, or see whether nvidia-smi lists a GPU and a driver");
  }
  check(cudaSetDevice(kDevice), "choosing the GPU");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, kDevice), "asking what the GPU is");
  if (properties.major < kOldestMajor || (properties.major == kOldestMajor && properties.minor < kOldestMinor)) {
    throw DeviceError(std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
                      std::to_string(properties.minor) +
                      "; the kernels need 7.5 (choose another GPU with CUDA_VISIBLE_DEVICES)");
  }
  Device* device = new Device;
  device->name = properties.name;
  // An ordinary stream, which waits for the default stream and is waited for by it; PyTorch and CuPy use the default stream.
  check(cudaStreamCreate(&device->stream), "making a stream");
  check(cudaMalloc(reinterpret_cast<void**>(&device->fault), sizeof(Fault)), "allocating memory");
  check(cudaMemsetAsync(device->fault, 0, sizeof(Fault), device->stream), "clearing memory");
  return device;
}

// Never destroyed, since arrays may outlive every static variable. After a failure, the next call tries again.
Device& device() {
  static Device& instance = *open_device();
  return instance;
}

void* take_freed(Device& d, std::size_t bytes) {
  const std::lock_guard<std::mutex> lock(d.mutex);
  const auto found = d.freed.find(bytes);
  if (found == d.freed.end()) return nullptr;
  void* pointer = found->second;
  d.freed.erase(found);
  return pointer;
}

void give_back(void* pointer, std::size_t bytes) {
  Device& d = device();
  if (!kKeepFreedMemory) {
    cudaFree(pointer);  // ignores errors: the launch that caused one reports it
    return;
  }
  const std::lock_guard<std::mutex> lock(d.mutex);
  d.freed.emplace(bytes, pointer);
}

// Frees all memory that is kept for reuse.
void release_freed(Device& d) {
  const std::lock_guard<std::mutex> lock(d.mutex);
  for (const auto& entry : d.freed) cudaFree(entry.second);
  d.freed.clear();
}

void* allocate_new(Device& d, std::size_t bytes) {
  void* pointer = nullptr;
  if (cudaMalloc(&pointer, bytes) == cudaSuccess) return pointer;
  cudaGetLastError();
  release_freed(d);
  const cudaError_t error = cudaMalloc(&pointer, bytes);
  if (error != cudaErrorMemoryAllocation) {
    check(error, "allocating memory");
    return pointer;
  }
  cudaGetLastError();
  std::size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw DeviceError("out of GPU memory: " + gigabytes(bytes) + " asked for, " + gigabytes(free) + " of " + gigabytes(total) +
                    " free on " + d.name + "; a smaller batch may help");
}

const char* description(Fault fault) {
  switch (fault) {
    case Fault::kIndices:
      return "max_pool2d_backward: indices expects places in its image's planes, got one outside";
    case Fault::kWinners:
      return "conv2d_relu_max_pool2d_backward: winners expects positions in the window or 255, got another number";
    case Fault::kLabels:
      return "softmax_cross_entropy: labels expects classes, got a number that is none";
    case Fault::kIndex:
      return "gather_images: index expects numbers of images, got one that is none";
    case Fault::kNone:
      break;
  }
  return nullptr;
}

void expect_no_fault() {
  Device& d = device();
  Fault found = Fault::kNone;
  check(cudaMemcpyAsync(&found, d.fault, sizeof(Fault), cudaMemcpyDeviceToHost, d.stream), "copying from the GPU");
  check(cudaStreamSynchronize(d.stream), "waiting for the GPU");
  if (found == Fault::kNone) return;
  check(cudaMemsetAsync(d.fault, 0, sizeof(Fault), d.stream), "clearing memory");
  throw std::invalid_argument(description(found));
}

// Throws if a graph is being captured. Call it for work that a captured stream cannot do; `deed` names the work.
void expect_no_capture(const char* deed) {
  if (device().captured == nullptr) return;
  const std::string reason = std::string("the work to be captured cannot ") + deed;
  Graph::make_void(reason);
  throw std::invalid_argument("Graph: " + reason);
}

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw DeviceError(std::string("the GPU failed while ") + what + " (" + cudaGetErrorString(error) +
                    "); what was computed since the last checkpoint is lost, start again from there");
}

void check_launch(const char* name) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) check(error, (std::string("running ") + name).c_str());
}

void expect_narrow(const char* op, std::int64_t elements) {
  if (elements > 0x7FFFFFFF) {
    throw std::invalid_argument(std::string(op) +
                                ": on a GPU, one image and all weights expect fewer than 2^31 elements, got " +
                                std::to_string(elements));
  }
}

cudaStream_t stream() { return device().stream; }

Fault* fault() { return device().fault; }

std::string status() {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return std::string(kBuild) + "; no driver";
  const std::string found = std::string(kBuild) + "; driver for CUDA " + version(driver);
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    cudaGetLastError();
    return found + "; no device";
  }
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, kDevice) != cudaSuccess) return found + "; a device that does not answer";
  return found + "; " + properties.name + " (" + std::to_string(properties.major) + "." + std::to_string(properties.minor) +
         ", " + gigabytes(properties.totalGlobalMem) + ")" + (count > 1 ? ", first of " + std::to_string(count) : "");
}

Memory allocate(std::size_t bytes) {
  Device& d = device();
  bytes = bytes > 0 ? bytes : 1;
  void* pointer = take_freed(d, bytes);
  if (pointer == nullptr) pointer = allocate_new(d, bytes);
  const Memory memory(pointer, [bytes](void* freed) { give_back(freed, bytes); });
  if (d.captured != nullptr) d.captured->push_back(memory);
  return memory;
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
  expect_no_capture("copy from the host, whose memory may be gone when the graph runs; make arrays with from_numpy before");
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "copying to the GPU");
}

void copy_on_device(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()), "copying on the GPU");
}

void set_bytes(void* to, int value, std::size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(to, value, bytes, stream()), "setting memory");
}

void copy_to_host(void* to, const void* from, std::size_t bytes) {
  expect_no_capture("read a result, which is there when the graph has run");
  if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream()), "copying from the GPU");
  expect_no_fault();
}

void synchronize() {
  expect_no_capture("wait");
  expect_no_fault();
}

void expect_on_device(const void* pointer) {
  device();
  cudaPointerAttributes attributes;
  const cudaError_t error = cudaPointerGetAttributes(&attributes, pointer);
  if (error != cudaSuccess || attributes.type != cudaMemoryTypeDevice) {
    cudaGetLastError();
    throw DeviceError("the array does not lie in GPU memory");
  }
  if (attributes.device != kDevice) {
    throw DeviceError("the array lies on GPU " + std::to_string(attributes.device) + ", fastlenet works on GPU " +
                      std::to_string(kDevice) + "; copy it there, or choose the GPU with CUDA_VISIBLE_DEVICES");
  }
}

// --- graphs --------------------------------------------------------------------------------------------------------------

namespace {

// The graph under capture. No other thread may use the device meanwhile.
std::unique_ptr<Graph> capturing;

}  // namespace

void Graph::begin() {
  Device& d = device();
  auto graph = std::make_unique<Graph>();
  check(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeRelaxed), "beginning a capture");
  d.captured = &graph->memory_;
  capturing = std::move(graph);
}

std::unique_ptr<Graph> Graph::end() {
  Device& d = device();
  d.captured = nullptr;
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(d.stream, &graph), "ending a capture");
  if (!capturing->reason_.empty()) {
    cudaGraphDestroy(graph);
    return std::move(capturing);
  }
  cudaGraphExec_t executable = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(error, "making a graph");
  capturing->executable_ = executable;
  return std::move(capturing);
}

void Graph::make_void(const std::string& reason) {
  if (capturing != nullptr && capturing->reason_.empty()) capturing->reason_ = reason;
}

Graph::~Graph() {
  if (executable_ != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::launch() const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), stream()), "launching a graph");
  check_launch("a graph");
}

}  // namespace fastlenet::cuda
