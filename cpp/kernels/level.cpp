// Compiled once per instruction-set level, with other compiler flags and another namespace, FASTLENET_LEVEL. Everything except
// the table has internal linkage, so that the linker cannot replace a function of one level by that of another.
#include "activation.hpp"
#include "conv.hpp"
#include "conv_pool.hpp"
#include "conv_pool_backward_lanes.hpp"
#include "conv_pool_backward_rows.hpp"
#include "conv_pool_winograd.hpp"
#include "elastic.hpp"
#include "gather.hpp"
#include "lanes.hpp"
#include "linear.hpp"
#include "linear_sparse.hpp"
#include "loss.hpp"
#include "orthogonal.hpp"
#include "philox.hpp"
#include "pool.hpp"
#include "update.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Twelve independent sums in registers hide the latency of two multiply-adds a cycle.
float multiply_add_peak(std::int64_t iterations, double* operations) {
  constexpr int kSums = 12;
  Vector sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = broadcast(static_cast<float>(i));
  Vector factor = broadcast(0.999f), term = broadcast(0.001f);
  for (std::int64_t round = 0; round < iterations; ++round) {
    asm volatile("" : "+m"(factor), "+m"(term));
    const Vector f = factor, t = term;
    for (int repeat = 0; repeat < 16; ++repeat) {
      for (int i = 0; i < kSums; ++i) sum[i] = sum[i] * f + t;
    }
  }
  float total = 0.0f;
  for (int i = 0; i < kSums; ++i) total += sum_lanes(sum[i]);
  *operations = 2.0 * kLanes * kSums * 16 * static_cast<double>(iterations);
  return total;
}

}  // namespace

// Every kernel by its name in table.hpp. The compiler reports a kernel that is left out.
extern const KernelTable kernels;
const KernelTable kernels = {
    .name = FASTLENET_LEVEL_NAME,
    .lanes = kLanes,
    .tile_rows = kTileRows,
    .tile_vectors = kTileVectors,
    .interleave = interleave,
    .interleave_bytes = interleave_bytes,
    .deinterleave = deinterleave,
    .deinterleave_bytes = deinterleave_bytes,
    .conv2d_forward = conv2d_forward,
    .conv2d_flip = conv2d_flip,
    .conv2d_backward_weight = conv2d_backward_weight,
    .conv2d_relu_max_pool2d_forward = conv2d_relu_max_pool2d_forward,
    .conv2d_relu_max_pool2d_forward_one = conv2d_relu_max_pool2d_forward_one,
    .winograd_products = winograd_products,
    .winograd_sizes = winograd_sizes,
    .winograd_weights = winograd_weights,
    .winograd_relu_max_pool2d_forward = winograd_relu_max_pool2d_forward,
    .winograd_weights_one = winograd_weights_one,
    .winograd_relu_max_pool2d_forward_one = winograd_relu_max_pool2d_forward_one,
    .conv2d_rows_sizes = conv2d_rows_sizes,
    .conv2d_rows_places = conv2d_rows_places,
    .conv2d_weight_to_rows = conv2d_weight_to_rows,
    .conv2d_relu_max_pool2d_backward_rows = conv2d_relu_max_pool2d_backward_rows,
    .conv2d_rows_to_weight = conv2d_rows_to_weight,
    .conv2d_relu_max_pool2d_backward_weight_lanes = conv2d_relu_max_pool2d_backward_weight_lanes,
    .unpool = unpool,
    .sum_blocks = sum_blocks,
    .all_finite = all_finite,
    .max_pool2d_forward = max_pool2d_forward,
    .max_pool2d_backward = max_pool2d_backward,
    .avg_pool2d_forward = avg_pool2d_forward,
    .avg_pool2d_backward = avg_pool2d_backward,
    .linear_forward = linear_forward,
    .linear_forward_one = linear_forward_one,
    .linear_backward_input = linear_backward_input,
    .linear_backward_weight = linear_backward_weight,
    .linear_backward_bias = linear_backward_bias,
    .linear_list_rows = linear_list_rows,
    .linear_forward_sparse = linear_forward_sparse,
    .linear_backward_input_sparse = linear_backward_input_sparse,
    .linear_backward_weight_sparse = linear_backward_weight_sparse,
    .count_zeros = count_zeros,
    .relu_forward = relu_forward,
    .relu_backward = relu_backward,
    .sigmoid_forward = sigmoid_forward,
    .sigmoid_backward = sigmoid_backward,
    .tanh_forward = tanh_forward,
    .tanh_backward = tanh_backward,
    .leaky_relu_forward = leaky_relu_forward,
    .leaky_relu_backward = leaky_relu_backward,
    .dropout_forward = dropout_forward,
    .dropout_backward = dropout_backward,
    .softmax_cross_entropy = softmax_cross_entropy,
    .softmax_squared_error = softmax_squared_error,
    .softmax_distillation = softmax_distillation,
    .squared_error = squared_error,
    .sgd_step = sgd_step,
    .adam_step = adam_step,
    .ema_step = ema_step,
    .symmetric_upper = symmetric_upper,
    .symmetric_mirror = symmetric_mirror,
    .widen_columns = widen_columns,
    .multiply_by = multiply_by,
    .gather_image = gather_image,
    .gather_shifted = gather_shifted,
    .gather_warped = gather_warped,
    .gather_floats = gather_floats,
    .gather_floats_shifted = gather_floats_shifted,
    .gather_floats_warped = gather_floats_warped,
    .random_words = random_words,
    .elastic_field = elastic_field,
    .multiply_add_peak = multiply_add_peak,
};

}  // namespace fastlenet::FASTLENET_LEVEL
