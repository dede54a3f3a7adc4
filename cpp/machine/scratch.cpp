#include "scratch.hpp"

#include <cstdlib>
#include <new>

namespace fastlenet {

namespace {

struct Block {
  float* data = nullptr;
  std::int64_t size = 0;
  ~Block() { std::free(data); }
};

constexpr std::int64_t kCacheLine = 16;  // floats

std::int64_t padded(std::int64_t size) { return (size + kCacheLine - 1) / kCacheLine * kCacheLine; }

}  // namespace

void take_scratch(std::initializer_list<ScratchArray> arrays) {
  static thread_local Block block;
  std::int64_t total = 0;
  for (const ScratchArray& array : arrays) total += padded(array.size());
  if (total > block.size) {
    std::free(block.data);
    block.size = 0;
    block.data = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(total) * sizeof(float)));
    if (block.data == nullptr) throw std::bad_alloc();
    block.size = total;
  }
  float* at = block.data;
  for (const ScratchArray& array : arrays) {
    array.point_to(at);
    at += padded(array.size());
  }
}

}  // namespace fastlenet
