#include "shapes.hpp"

#include <limits>
#include <stdexcept>

namespace fastlenet {

namespace {

[[noreturn]] void fail(const char* op, const std::string& message) {
  throw std::invalid_argument(std::string(op) + ": " + message);
}

std::string to_string(Pair pair) { return "(" + std::to_string(pair.h) + ", " + std::to_string(pair.w) + ")"; }

void expect_at_least(const char* op, const char* argument, std::int64_t least, Pair got) {
  if (got.h < least || got.w < least) {
    fail(op, std::string(argument) + " expects integers of at least " + std::to_string(least) + ", got " + to_string(got));
  }
}

// The output size of a window that moves over one padded axis: (size + 2*padding - window) / stride + 1.
std::int64_t output_size(std::int64_t size, std::int64_t window, std::int64_t stride, std::int64_t padding) {
  return (size + 2 * padding - window) / stride + 1;
}

// Refuses sizes whose product could pass 2^62 bytes, so that no index overflows.
void expect_addressable(const char* op, std::initializer_list<std::int64_t> factors) {
  std::int64_t left = std::numeric_limits<std::int64_t>::max() / 8;
  for (std::int64_t factor : factors) {
    if (factor == 0) continue;  // as NumPy does
    left /= factor;
    if (left == 0) fail(op, "the output would be too large to address");
  }
}

// With this limit, 31 bits index two numbers for each pixel of an image with its border: 2 * (32000 + 3) * (32000 + 18) < 2^31.
constexpr std::int64_t kMaxSide = 32000;

}  // namespace

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(dims[i]);
  }
  return text + (dims.size() == 1 ? ",)" : ")");
}

void expect_rank(const char* op, const char* argument, std::size_t rank, const char* legend, const Dims& got) {
  if (got.size() != rank) {
    fail(op, std::string(argument) + " expects " + std::to_string(rank) + " dimensions " + legend + ", got shape " +
                 to_string(got));
  }
}

void expect_dims(const char* op, const char* argument, const Dims& expected, const Dims& got) {
  if (expected != got) {
    fail(op, std::string(argument) + " expects shape " + to_string(expected) + ", got " + to_string(got));
  }
}

void expect_filters(const char* op, const Dims& weight) {
  expect_rank(op, "weight", 4, "(k, c, r, s)", weight);
  if (weight[2] < 1 || weight[3] < 1) fail(op, "weight expects filters of at least 1 x 1, got shape " + to_string(weight));
}

ConvShape conv_shape(const char* op, const Dims& x, const Dims& weight, Pair stride, Pair padding) {
  expect_rank(op, "x", 4, "(n, c, h, w)", x);
  expect_filters(op, weight);
  expect_at_least(op, "stride", 1, stride);
  expect_at_least(op, "padding", 0, padding);
  if (weight[1] != x[1]) {
    fail(op, "weight expects " + std::to_string(weight[1]) + " input channels, x has " + std::to_string(x[1]) + " (x shape " +
                 to_string(x) + ")");
  }
  expect_addressable(op, {x[2] + 1, padding.h + 1, 8});
  expect_addressable(op, {x[3] + 1, padding.w + 1, 8});
  if (x[2] + 2 * padding.h < weight[2] || x[3] + 2 * padding.w < weight[3]) {
    fail(op, "weight's filter of " + to_string(Pair{weight[2], weight[3]}) + " exceeds the padded image of " +
                 to_string(Pair{x[2] + 2 * padding.h, x[3] + 2 * padding.w}) + " (x shape " + to_string(x) + ")");
  }
  ConvShape shape{x[0],
                  x[1],
                  x[2],
                  x[3],
                  weight[0],
                  weight[2],
                  weight[3],
                  stride,
                  padding,
                  output_size(x[2], weight[2], stride.h, padding.h),
                  output_size(x[3], weight[3], stride.w, padding.w)};
  expect_addressable(op, {shape.n + 64, shape.k + 1, shape.p, shape.q, 4});
  expect_addressable(op, {shape.n + 64, shape.c + 1, x[2] + 2 * padding.h, x[3] + 2 * padding.w, 4});
  return shape;
}

// Refuses planes without pixels, and planes with more pixels than int32 indices reach.
static void expect_pixels(const char* op, const char* argument, const Dims& x) {
  if (x[2] < 1 || x[3] < 1)
    fail(op, std::string(argument) + " expects planes of at least one pixel, got shape " + to_string(x));
  if (x[2] > std::numeric_limits<std::int32_t>::max() / x[3]) {
    fail(op, std::string(argument) + " expects planes of fewer than 2^31 pixels, got shape " + to_string(x));
  }
}

PoolShape pool_shape(const char* op, const Dims& x, Pair kernel_size, Pair stride, Pair padding, const char* argument) {
  expect_rank(op, argument, 4, "(n, c, h, w)", x);
  expect_at_least(op, "kernel_size", 1, kernel_size);
  expect_at_least(op, "stride", 1, stride);
  expect_at_least(op, "padding", 0, padding);
  expect_pixels(op, argument, x);
  expect_addressable(op, {x[0], x[1], 4});  // first, since a shape that was given as numbers may be of any size
  if (padding.h > kernel_size.h / 2 || padding.w > kernel_size.w / 2) {
    fail(op, "padding expects at most half of kernel_size " + to_string(kernel_size) + ", got " + to_string(padding));
  }
  if (x[2] + 2 * padding.h < kernel_size.h || x[3] + 2 * padding.w < kernel_size.w) {
    fail(op, "kernel_size " + to_string(kernel_size) + " exceeds the padded image of " +
                 to_string(Pair{x[2] + 2 * padding.h, x[3] + 2 * padding.w}) + " (x shape " + to_string(x) + ")");
  }
  const PoolShape shape{x[0],
                        x[1],
                        x[2],
                        x[3],
                        kernel_size.h,
                        kernel_size.w,
                        stride,
                        padding,
                        output_size(x[2], kernel_size.h, stride.h, padding.h),
                        output_size(x[3], kernel_size.w, stride.w, padding.w)};
  expect_addressable(op, {shape.n + 64, shape.c + 1, shape.p, shape.q, 4});
  expect_addressable(op, {shape.n + 64, shape.c + 1, shape.h, shape.w, 4});
  return shape;
}

PoolShape unpool_shape(const char* op, const Dims& dy, const Dims& x_shape) {
  expect_rank(op, "x_shape", 4, "(n, c, h, w)", x_shape);
  expect_rank(op, "dy", 4, "(n, c, p, q)", dy);
  expect_dims(op, "dy", {x_shape[0], x_shape[1], dy[2], dy[3]}, dy);
  expect_pixels(op, "x_shape", x_shape);
  return {dy[0], dy[1], x_shape[2], x_shape[3], 1, 1, {1, 1}, {0, 0}, dy[2], dy[3]};
}

ConvPoolShape conv_pool_shape(const char* op, const Dims& x, const Dims& weight, Pair padding, Pair kernel_size) {
  const ConvShape conv = conv_shape(op, x, weight, {1, 1}, padding);
  const PoolShape pool = pool_shape(op, {conv.n, conv.k, conv.p, conv.q}, kernel_size, kernel_size, {0, 0});
  if (kernel_size.h * kernel_size.w > kDeadWindow) {
    fail(op, "kernel_size expects at most " + std::to_string(kDeadWindow) + " elements, the winners being uint8, got " +
                 to_string(kernel_size));
  }
  return {conv, pool};
}

void expect_listable(const char* op, const ConvPoolShape& shape) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max(), vector = 16, copies = 4;
  const ConvShape& conv = shape.conv;
  const std::int64_t line = (conv.w + 2 * conv.padding.w) * conv.c + vector;
  if (copies * ((conv.h + 2 * conv.padding.h) * line + 2 * vector) > most) {
    fail(op, "x expects images of fewer than 2^29 numbers, their padding included, got shape " +
                 to_string({conv.n, conv.c, conv.h, conv.w}));
  }
  if (conv.k * (conv.s * conv.c + vector) > most || conv.k * shape.pool.p * shape.pool.q + vector > most) {
    fail(op, "weight expects fewer than 2^31 numbers in k*s*c, and in k*p*q, got shape " +
                 to_string({conv.k, conv.c, conv.r, conv.s}));
  }
}

LinearShape linear_shape(const char* op, const Dims& x, const Dims& weight) {
  expect_rank(op, "x", 2, "(n, in)", x);
  expect_rank(op, "weight", 2, "(out, in)", weight);
  if (weight[1] != x[1]) {
    fail(op, "weight expects " + std::to_string(weight[1]) + " input features, x has " + std::to_string(x[1]) + " (x shape " +
                 to_string(x) + ")");
  }
  expect_addressable(op, {x[0], weight[0], 4});
  return {x[0], x[1], weight[0]};
}

GatherShape gather_shape(const char* op, const Dims& images, const Dims& index) {
  if (images.size() != 4) expect_rank(op, "images", 3, "(N, h, w), or 4 (N, c, h, w)", images);
  expect_rank(op, "index", 1, "(n,)", index);
  const bool channels = images.size() == 4;
  const GatherShape shape{index[0], images[0], channels ? images[1] : 1, images[channels ? 2 : 1], images[channels ? 3 : 2]};
  expect_addressable(op, {shape.n, shape.c, shape.h, shape.w, 4});
  return shape;
}

void expect_transformable(const char* op, const GatherShape& shape) {
  if (shape.h > kMaxSide || shape.w > kMaxSide) {
    fail(op, "images expects at most " + std::to_string(kMaxSide) + " pixels a side for a transform, got images of " +
                 to_string(Pair{shape.h, shape.w}));
  }
}

}  // namespace fastlenet
