// The contract of every single-threaded CPU kernel. Each instruction-set level has one table of kernels.
//
// *Blocks.* The convolutions and the linear layer compute `lanes` images at once, one in each lane of a vector. A block is an
// array [...][lanes] of consecutive images; lanes without an image are zero. So every shape fills the vectors, and an image's
// result never depends on the other images. Only kernels and ops know this layout.
//
// Every kernel overwrites its outputs unless its contract says that it adds. Outputs and inputs do not overlap, except in the
// element-wise kernels, which may work in place. Float arrays need no alignment beyond 4 bytes. A Range is [begin, end).
#pragma once

#include <cstdint>

#include "../shapes.hpp"
#include "workspaces.hpp"

namespace fastlenet {

struct KernelTable {
  const char* name;
  int lanes;         // images in a block
  int tile_rows;     // outputs per image that a tile computes at once
  int tile_vectors;  // vectors per row of that tile

  // --- lanes.hpp: copies between planes and blocks ---

  // block[frame.c][frame_h][frame_w][lanes] <- x[count][c][h][w], count <= lanes.
  void (*interleave)(float* block, const float* x, std::int64_t count, const Frame& frame);
  void (*interleave_bytes)(std::int32_t* block, const std::uint8_t* x, std::int64_t count, std::int64_t size);
  // y[count][size] <- block[size][lanes]; the second narrows to bytes.
  void (*deinterleave)(float* y, const float* block, std::int64_t count, std::int64_t size);
  void (*deinterleave_bytes)(std::uint8_t* y, const std::int32_t* block, std::int64_t count, std::int64_t size);

  // --- conv.hpp ---

  // y[k][p][q][lanes] of one block; x[c][h + 2*padding.h][w + 2*padding.w][lanes]. y = bias + sum over (c, r, s) in order.
  // bias may be null. Source: Chellapilla et al. 2006, with images in place of patches as the columns.
  void (*conv2d_forward)(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape);
  // flipped[c][k][r][s] = weight[k][c][R-1-r][S-1-s]: with it, conv2d_forward gives dx from dy.
  void (*conv2d_flip)(float* flipped, const float* weight, const ConvShape& shape);
  // dweight[k][c][r][s] and dbias[k] of the channels in `k`, over all blocks in order: x[blocks][c][h + 2*padding.h]
  // [w + 2*padding.w][lanes], dy[blocks][k][p][q][lanes]. Each sum runs over (block, p, q), then over the lanes as a
  // tree.
  void (*conv2d_backward_weight)(float* dweight, float* dbias, const float* dy, const float* x, std::int64_t blocks, Range k,
                                 const ConvShape& shape);

  // --- conv_pool.hpp ---

  // y, winners [k][p][q][lanes] (pool's p, q) of one block; x as for conv2d_forward. y = relu(max over the window); the winner
  // is the first maximum in row order, NaN above all, kDeadWindow where y is 0.
  void (*conv2d_relu_max_pool2d_forward)(float* y, std::int32_t* winners, const float* x, const float* weight,
                                         const float* bias, const ConvPoolShape& shape);

  // One image, x[c][h + 2*padding.h][w + 2*padding.w]; y, winners[channel groups][pool.p * pool.q][lanes], weight
  // [channel groups][c*r*s][lanes] and bias[channel groups][lanes]. A group is `lanes` channels; the last one is filled up with
  // zeros.
  void (*conv2d_relu_max_pool2d_forward_one)(float* y, std::int32_t* winners, const float* x, const float* weight,
                                             const float* bias, const ConvPoolShape& shape);

  // --- conv_pool_winograd.hpp: square filters of 3x3 or 5x5, windows of 2x2 ---

  std::int64_t (*winograd_products)(const ConvShape& shape);  // of a tile
  WinogradSizes (*winograd_sizes)(const ConvPoolShape& shape);
  // Transforms the weights of one group of tile_rows output channels.
  void (*winograd_weights)(float* weights, const float* weight, std::int64_t group, const ConvShape& shape);
  // As conv2d_relu_max_pool2d_forward, with other rounding, for x[c][frame_h][frame_w][lanes]. NaN and infinity reach the same
  // outputs, and may make other outputs of the same image and tile NaN.
  void (*winograd_relu_max_pool2d_forward)(float* y, std::int32_t* winners, const float* x, const float* weights,
                                           const float* bias, float* scratch, const ConvPoolShape& shape);

  // The same for one image, with the same bits: x[groups of c][frame_h][frame_w][lanes], y, winners [groups of k][pool.p *
  // pool.q][lanes], weights[products][c][groups of k][lanes], bias[groups of k][lanes]. A group is `lanes` channels; the last
  // one is filled up with zeros.
  void (*winograd_weights_one)(float* weights, const float* weight, const ConvShape& shape);
  void (*winograd_relu_max_pool2d_forward_one)(float* y, std::int32_t* winners, const float* x, const float* weights,
                                               const float* bias, float* scratch, const ConvPoolShape& shape);

  // --- conv_pool_backward_rows.hpp ---

  // In rows layout a filter row is s*c contiguous floats: weights [r][k][pitch], their gradients [k][r][pitch], images
  // [h][w][c] with their padding.
  RowsSizes (*conv2d_rows_sizes)(const ConvShape& shape);
  void (*conv2d_rows_places)(const RowsPlaces& places, const ConvPoolShape& shape);
  // Copies the weights of the channels in `k` into rows layout.
  void (*conv2d_weight_to_rows)(float* rows, const float* weight, Range k, const ConvShape& shape);
  // One image: adds its gradients to sums[k][r][pitch], for dweight, and to bias_sums[k][lanes], for dbias. Writes dx[c][h][w],
  // unless it is null. Positions that did not win are left out, not multiplied by zero.
  void (*conv2d_relu_max_pool2d_backward_rows)(float* dx, float* sums, float* bias_sums, const RowsScratch& scratch,
                                               const RowsPlaces& places, const float* dy, const std::uint8_t* winners,
                                               const float* x, const float* weight_rows, const ConvPoolShape& shape);
  // dweight[k][c][r][s] of the channels in `k`: the sum, in order, of `parts` arrays of rows, which are `part` floats apart.
  void (*conv2d_rows_to_weight)(float* dweight, const float* rows, std::int64_t parts, std::int64_t part, Range k,
                                const ConvShape& shape);

  // --- conv_pool_backward_lanes.hpp ---

  // One block: sums[k*c*r*s][lanes] for dweight, then [k][lanes] for dbias. x as for conv2d_forward; dy and winners as
  // conv2d_relu_max_pool2d_forward has y and winners. strip is scratch for 4 * pool.r * pool.q * pool.s * lanes floats. x must
  // be finite.
  void (*conv2d_relu_max_pool2d_backward_weight_lanes)(float* sums, float* strip, const float* dy, const std::int32_t* winners,
                                                       const float* x, const ConvPoolShape& shape);
  // frame[k][frame_h][frame_w][lanes]: dy at the position that won, 0 elsewhere, at (top, left) in the frame.
  void (*unpool)(float* frame, const float* dy, const std::int32_t* winners, const PoolShape& pool, const Frame& place);
  // sum[i] for i in `range`: of sums[blocks][pitch][lanes], the blocks in order, then the lanes as a tree.
  void (*sum_blocks)(float* sum, const float* sums, std::int64_t blocks, std::int64_t pitch, Range range);
  bool (*all_finite)(const float* x, std::int64_t count);

  // --- pool.hpp ---

  // y, indices [p][q][lanes], x [h][w][lanes]: `lanes` planes at once. The first maximum in row order wins, and NaN above
  // all; padding never wins.
  void (*max_pool2d_forward)(float* y, std::int32_t* indices, const float* x, const PoolShape& shape);
  // dx[h*w] of one plane: the sum, in order, of dy[p*q] at its indices. An index outside the plane is left out.
  void (*max_pool2d_backward)(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape);

  // As max_pool2d_forward: y is the sum of the window in row order, divided by r * s. What lies outside the image counts as 0.
  void (*avg_pool2d_forward)(float* y, const float* x, const PoolShape& shape);
  // dx[h][w][lanes], dy[p][q][lanes]: each pixel's sum, in row order, of dy of the windows that hold it, divided by r * s.
  void (*avg_pool2d_backward)(float* dx, const float* dy, const PoolShape& shape);

  // --- linear.hpp ---

  // y[blocks][out][lanes], only the rows in `out`; x[blocks][in][lanes], 1 <= blocks <= tile_vectors.
  void (*linear_forward)(float* y, const float* x, const float* weight, const float* bias, std::int64_t blocks, Range out,
                         const LinearShape& shape);
  // One image, with transposed weights [in][out]. skip_zeros: leaves out products with zeros of x; the bits are the same if the
  // weights are finite.
  void (*linear_forward_one)(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                             const LinearShape& shape);
  // dx[n][in], only the columns in `in`, at most tile_vectors * lanes; panel is scratch for `out` times that many floats.
  void (*linear_backward_input)(float* dx, float* panel, const float* dy, const float* weight, Range in,
                                const LinearShape& shape);
  // dweight[out][in], only the columns in `in`, as above; panel is scratch for n times that many floats. Each sum runs over the
  // images in order.
  void (*linear_backward_weight)(float* dweight, float* panel, const float* dy, const float* x, Range in,
                                 const LinearShape& shape);
  // dbias[out], only those in `out`: the sum over the images, in order.
  void (*linear_backward_bias)(float* dbias, const float* dy, Range out, const LinearShape& shape);

  // --- linear_sparse.hpp: the same bits, faster, if a factor is mostly zeros. A kernel returns true if the numbers that the
  // zeros multiply are finite; if it returns false, its outputs are unspecified ---

  // Makes the lists of x[n][width], only of the rows in `rows`.
  void (*linear_list_rows)(const SparseScratch& scratch, const float* x, std::int64_t width, Range rows);
  // y[n][out], only the columns in `out`, from the lists of x.
  bool (*linear_forward_sparse)(float* y, const SparseScratch& scratch, const float* weight, const float* bias, Range out,
                                const LinearShape& shape);
  // dx[n][in], only the columns in `in`, from the lists of dy. The terms of `chunks`, of kSparseChunk outputs each, are added
  // to those of the chunks before.
  bool (*linear_backward_input_sparse)(float* dx, const SparseScratch& scratch, const float* weight, Range in, Range chunks,
                                       const LinearShape& shape);
  // dweight[out][in], only the rows in `out`; makes their lists itself, so all of scratch is workspace.
  bool (*linear_backward_weight_sparse)(float* dweight, const SparseScratch& scratch, const float* dy, const float* x,
                                        Range out, const LinearShape& shape);
  std::int64_t (*count_zeros)(const float* x, std::int64_t count);

  // --- activation.hpp: element-wise ---

  void (*relu_forward)(float* y, const float* x, std::int64_t count);                        // NaN stays NaN
  void (*relu_backward)(float* dx, const float* dy, const float* y, std::int64_t count);     // dy where y > 0, else 0
  void (*sigmoid_forward)(float* y, const float* x, std::int64_t count);                     // within 1 ulp of 1/(1+exp(-x))
  void (*sigmoid_backward)(float* dx, const float* dy, const float* y, std::int64_t count);  // dy * (y * (1 - y))
  void (*tanh_forward)(float* y, const float* x, std::int64_t count);                        // within 1 ulp; keeps -0 and NaN
  void (*tanh_backward)(float* dx, const float* dy, const float* y, std::int64_t count);     // dy * ((1 - y) * (1 + y))
  // x where x > 0, else slope * x; and dy where y > 0, else slope * dy. NaN stays NaN.
  void (*leaky_relu_forward)(float* y, const float* x, std::int64_t count, float slope);
  void (*leaky_relu_backward)(float* dx, const float* dy, const float* y, std::int64_t count, float slope);
  // Elements [range): mask is 0 or 1/(1-rate), y = x * mask. Element i is kept when word w = offset + i of Philox4x32-10
  // (Salmon et al. 2011; key seed, counter words w/4, counter, stream 2) is at least threshold = rate * 2^32.
  void (*dropout_forward)(float* y, float* mask, const float* x, std::uint64_t threshold, float scale, std::uint64_t seed,
                          std::uint64_t counter, std::uint64_t offset, Range range);
  void (*dropout_backward)(float* dx, const float* dy, const float* mask, std::int64_t count);

  // --- loss.hpp ---

  // Rows of `classes` logits: losses[rows] and dlogits[rows][classes] = scale * (softmax - target), where target is 1 -
  // smoothing at the label plus smoothing / classes everywhere; each row's times its weight, if weights is not null. A label
  // that is no class is left out. Computed in float64, rounded once.
  void (*softmax_cross_entropy)(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                                const float* weights, std::int64_t rows, std::int64_t classes, double smoothing, double scale);
  // The same for the mean over the classes of (softmax - target)^2: losses[rows], and dlogits = scale * its gradient.
  void (*softmax_squared_error)(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                                const float* weights, std::int64_t rows, std::int64_t classes, double smoothing, double scale);
  // Distillation: 1 - mix times softmax_cross_entropy's losses and gradients, and mix * temperature^2 times those of the
  // teacher's probabilities [rows][classes] and softmax(logits / temperature).
  void (*softmax_distillation)(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                               const float* teacher, const float* weights, std::int64_t rows, std::int64_t classes,
                               const Distillation& how, double scale);
  // Returns the sum of (prediction - target)^2 in float64, in order; dprediction = 2 * (prediction - target).
  double (*squared_error)(float* dprediction, const float* prediction, const float* target, std::int64_t count);

  // --- update.hpp: in place on flat buffers ---

  // PyTorch's rule: g += weight_decay*w; v = momentum*v + g; w -= lr * (nesterov ? g + momentum*v : v). velocity may be null
  // when momentum is 0.
  void (*sgd_step)(float* parameters, const float* gradients, float* velocity, std::int64_t count, const SgdStep& step);
  // Loshchilov & Hutter 2019: w *= decay; m, v moving means of g, g^2; w -= step_size * m / (sqrt(v) * root_scale +
  // eps).
  void (*adam_step)(float* parameters, const float* gradients, float* first_moment, float* second_moment, std::int64_t count,
                    const AdamStep& step);
  void (*ema_step)(float* average, const float* parameters, std::int64_t count, float decay);

  // --- orthogonal.hpp ---

  // The elements (i, j), j >= i, of the sum for the rows i in `rows`, which begins at a multiple of tile_rows. Each is one
  // chain over the depth. Some elements below the diagonal are overwritten too; symmetric_mirror then copies them from above
  // it.
  void (*symmetric_upper)(const SymmetricSum& sum, Range rows);
  void (*symmetric_mirror)(double* c, std::int64_t pitch, Range rows);
  // tall[lines][pitch]: these lines of matrix[rows][columns], its columns or rows of the smaller size; with zeros after it.
  void (*widen_columns)(double* tall, const float* matrix, std::int64_t rows, std::int64_t columns, std::int64_t pitch,
                        Range lines);
  // x *= factor, rounded once.
  void (*multiply_by)(float* x, double factor, std::int64_t count);

  // --- gather.hpp ---

  // These work on one channel of one image. x[h*w]: each pixel v becomes table[v]. gather_shifted moves the image down and
  // right by `shift` pixels and fills the border with table[0].
  void (*gather_image)(float* x, const std::uint8_t* image, const float* table, std::int64_t pixels);
  void (*gather_shifted)(float* x, const std::uint8_t* image, const float* table, Pair shift, const GatherShape& shape);
  // x[h*w]: bilinear samples of the raw pixels at the places that `warp` gives, times scale plus shift. A sample is zero
  // outside the image and at NaN. frame is scratch for 2 * (h + 3) * (w + 2 + lanes) numbers; this must be below 2^31.
  void (*gather_warped)(float* x, std::int32_t* frame, const std::uint8_t* image, const Warp& warp, float scale, float shift,
                        const GatherShape& shape);
  // The same of images of floats: (value - mean) / std in double precision, rounded once; and between the pixels value * scale
  // + shift. frame is scratch for (h + 3) * (w + 2 + lanes) floats.
  void (*gather_floats)(float* x, const float* image, double mean, double std, std::int64_t pixels);
  void (*gather_floats_shifted)(float* x, const float* image, double mean, double std, Pair shift, const GatherShape& shape);
  void (*gather_floats_warped)(float* x, float* frame, const float* image, const Warp& warp, float scale, float shift,
                               const GatherShape& shape);

  // --- philox.hpp, elastic.hpp ---

  // words[count] of Philox4x32-10 (Salmon et al. 2011), key seed, counter words i/4, counter, stream. There must be room for
  // 2 * lanes more.
  void (*random_words)(std::uint32_t* words, std::uint64_t seed, std::uint32_t stream, std::uint64_t counter,
                       std::int64_t count);
  // field[h][2][w], with rows of whole vectors: noise in (-1, 1), smoothed along both axes by taps[-radius..radius], with zeros
  // outside. The noise at (i, j) comes from words[j*h + i]: down from its low 16 bits, right from its high 16 bits. taps must
  // have tile_rows - 1 further zeros on both sides, and `lanes` further words must be readable. field and room (scratch) have
  // room for 2*h*w floats, with h and w rounded up to whole vectors.
  void (*elastic_field)(float* field, float* room, const std::uint32_t* words, const float* taps, std::int64_t radius,
                        const GatherShape& shape);

  // --- level.cpp ---

  // Computes `iterations` rounds of independent multiply-adds in registers; *operations receives their number of floating-point
  // operations. The benchmarks time it to measure the peak. The returned value keeps the compiler from removing the loop.
  float (*multiply_add_peak)(std::int64_t iterations, double* operations);
};

}  // namespace fastlenet
