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

}  // namespace

float* Scratch::reserve(std::int64_t size) {
  static thread_local Block block;
  if (size > block.size) {
    std::free(block.data);
    block.size = 0;
    block.data = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(size) * sizeof(float)));
    if (block.data == nullptr) throw std::bad_alloc();
    block.size = size;
  }
  return block.data;
}

}  // namespace fastlenet
