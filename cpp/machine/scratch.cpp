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

void Scratch::take(float** pointers, const std::int64_t* sizes, int arrays) {
  static thread_local Block block;
  std::int64_t total = 0;
  for (int i = 0; i < arrays; ++i) total += padded(sizes[i]);
  if (total > block.size) {
    std::free(block.data);
    block.size = 0;
    block.data = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(total) * sizeof(float)));
    if (block.data == nullptr) throw std::bad_alloc();
    block.size = total;
  }
  float* at = block.data;
  for (int i = 0; i < arrays; ++i) {
    pointers[i] = at;
    at += padded(sizes[i]);
  }
}

}  // namespace fastlenet
