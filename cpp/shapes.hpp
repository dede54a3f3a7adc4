// Checked shapes. Sizes are validated here and nowhere else; ops and kernels rely on it.
//
// Letters: n batch, c in-channels, k out-channels, h w input, p q output, r s filter or window.
// The structs are plain data, since objects compiled for different instruction sets share them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fastlenet {

struct Pair {
  std::int64_t h, w;
};

struct ConvShape {
  std::int64_t n, c, h, w;
  std::int64_t k, r, s;
  Pair stride, padding;
  std::int64_t p, q;
};

struct PoolShape {
  std::int64_t n, c, h, w;
  std::int64_t r, s;
  Pair stride, padding;
  std::int64_t p, q;
};

// The winner of a dead window, whose output is 0. Winners are bytes, so a window has at most this many elements.
constexpr std::uint8_t kDeadWindow = 255;

// A convolution of stride 1 whose p x q output is pooled in disjoint windows of r x s.
struct ConvPoolShape {
  ConvShape conv;
  PoolShape pool;
};

struct LinearShape {
  std::int64_t n, in, out;
};

// n images of h x w pixels, picked from `count`.
struct GatherShape {
  std::int64_t n, count, c, h, w;
};

using Dims = std::vector<std::int64_t>;

std::string to_string(const Dims& dims);

// These functions throw std::invalid_argument, which names the op, the argument, what was expected and what was given. Dims of
// rank 0 are an absent bias or weight.
void expect_filters(const char* op, const Dims& weight);
ConvShape conv_shape(const char* op, const Dims& x, const Dims& weight, Pair stride, Pair padding);
// argument: the op's name for x. A backward op has only the shape of x.
PoolShape pool_shape(const char* op, const Dims& x, Pair kernel_size, Pair stride, Pair padding, const char* argument = "x");
// The shape for max_pool2d_backward, without windows and strides.
PoolShape unpool_shape(const char* op, const Dims& dy, const Dims& x_shape);
ConvPoolShape conv_pool_shape(const char* op, const Dims& x, const Dims& weight, Pair padding, Pair kernel_size);
// Refuses an image or weights with more than 2^31 elements, because the lists of winners have 31-bit indices.
void expect_listable(const char* op, const ConvPoolShape& shape);
LinearShape linear_shape(const char* op, const Dims& x, const Dims& weight);
GatherShape gather_shape(const char* op, const Dims& images, const Dims& index);
// Refuses images that are too large for the 32-bit indices of vector look-ups.
void expect_transformable(const char* op, const GatherShape& shape);
void expect_dims(const char* op, const char* argument, const Dims& expected, const Dims& got);
void expect_rank(const char* op, const char* argument, std::size_t rank, const char* legend, const Dims& got);

}  // namespace fastlenet
