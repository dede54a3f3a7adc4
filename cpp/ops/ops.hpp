// The ops on whole batches. They cut a batch into tasks for the threads, take scratch memory, and convert layouts for the
// kernels.
//
// The names and their meaning are those of fastlenet.ops. Arrays are dense, row-major, NCHW. Shapes have been checked. A null
// pointer stands for an absent bias or an unwanted dx. Indices, labels and winners have been checked too, but another Python
// thread may have changed them since. So an op reads each of them once, and uses it as an address only if it is in range then.
//
// Nothing is summed across threads: each task owns its outputs and adds in the order of the images. So the bits do not
// depend on the number of threads, and an image's outputs not on the batch that it comes in; but the whole batch decides
// whether conv2d_relu_max_pool2d_backward_bf16 rounds.
#pragma once

#include <cstdint>
#include <vector>

#include "../kernels/workspaces.hpp"
#include "../shapes.hpp"
#include "augment.hpp"

namespace fastlenet::cpu {

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape);
void conv2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const ConvShape& shape);

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape);
void max_pool2d_backward(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape);
void avg_pool2d_forward(float* y, const float* x, const PoolShape& shape);
void avg_pool2d_backward(float* dx, const float* dy, const PoolShape& shape);

// direct: each output is one chain of multiply-adds. winograd: fewer multiply-adds, for shapes for which that is faster; else
// direct.
enum class Algorithm { direct, winograd };

// packed: null, or the result of pack_filters for this weight and algorithm. It is used for a few images.
void conv2d_relu_max_pool2d_forward(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                                    const float* packed, Algorithm algorithm, const ConvPoolShape& shape);
// Whether this shape is computed by Winograd's algorithm.
bool by_winograd(Algorithm algorithm, const ConvPoolShape& shape);
// The same with pixels and filters of bfloat16, by the unit in use, unless it has no such kernel or the shape is computed by
// Winograd's algorithm: then in float32.
void conv2d_relu_max_pool2d_forward_bf16(float* y, std::uint8_t* winners, const float* x, const float* weight,
                                         const float* bias, const float* packed, Algorithm algorithm,
                                         const ConvPoolShape& shape);
std::int64_t packed_size(Algorithm algorithm, const ConvShape& shape);
void pack_filters(float* packed, const float* weight, Algorithm algorithm, const ConvShape& shape);
void conv2d_relu_max_pool2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                     const float* x, const float* weight, const ConvPoolShape& shape);
// The same; dx and dweight with factors of bfloat16 where the unit in use multiplies tiles and enough windows live.
void conv2d_relu_max_pool2d_backward_bf16(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                          const float* x, const float* weight, const ConvPoolShape& shape);

void linear_forward(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape);
// Up to this number of images, a linear layer is faster with transposed weights, which it reads in place, than with rows, which
// it copies.
constexpr std::int64_t kFewImages = 4;
inline bool prefers_transposed(std::int64_t images) { return images <= kFewImages; }
// weight, [out][in], as linear_forward_transposed takes it: packed[in][out].
void pack_matrix(float* packed, const float* weight, std::int64_t out, std::int64_t in);
// For a few images. weight is [in][out] here. skip_zeros: leave out the products with zeros of x.
void linear_forward_transposed(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                               const LinearShape& shape);
void linear_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const LinearShape& shape);

// The same with factors of bfloat16, by the unit in use (machine/units.hpp). packed: null, or what pack_panels makes of weight.
void linear_forward_bf16(float* y, const float* x, const float* weight, const float* bias, const std::uint32_t* packed,
                         const LinearShape& shape);
void linear_backward_bf16(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                          const LinearShape& shape);
std::int64_t packed_panels_size(std::int64_t out, std::int64_t in);
void pack_panels(std::uint32_t* packed, const float* weight, std::int64_t out, std::int64_t in);

// offset: the number of elements before x[0] in the array whose mask this is a part of.
void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, std::uint64_t counter,
                     std::uint64_t offset, std::int64_t count);

// All return the loss. batch_size: of the batch that the rows are a part of; it divides their sum.
double softmax_cross_entropy(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size);
double softmax_squared_error(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size);
double softmax_distillation(float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                            const float* weights, std::int64_t rows, std::int64_t classes, const Distillation& how,
                            std::int64_t batch_size);
double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count);

// Pixels are std::uint8_t in 0..255 or float in [0, 1]. mean and std have one number for each channel. transform: n x 2 x 3, or
// null.
template <typename Pixel>
void gather_images(float* x, const Pixel* images, const std::int64_t* index, const float* transform, const double* mean,
                   const double* std, const GatherShape& shape);
// Distorts each image by the random numbers of (seed, epoch, its number); all its channels alike. views: null; or count x 2 x
// 3, the map of each image of the data set from its preprocessed form, which is distorted, to the raw one.
template <typename Pixel>
void gather_augmented(float* x, const Pixel* images, const std::int64_t* index, const float* views,
                      const Augmentation& augmentation, std::uint64_t seed, std::uint32_t epoch, const double* mean,
                      const double* std, const GatherShape& shape);

// The steps update the average in the same pass. velocity may be null when momentum is 0.
void sgd_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
              const SgdStep& step);
void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, const Average& average,
               std::int64_t count, const AdamStep& step);
void ema_step(float* average, const float* parameters, std::int64_t count, float decay);
// parts: without overlap, in ascending order.
void muon_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
               const std::vector<MatrixPart>& parts, const MuonStep& step);

// Measures the multiply-add peak of `threads` threads at once, in floating-point operations per second.
double multiply_add_peak(int threads, double seconds);

}  // namespace fastlenet::cpu
