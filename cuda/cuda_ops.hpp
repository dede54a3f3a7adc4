// The ops on a GPU: memory, the stream that all work runs on, graphs, and one function per op on device arrays.
//
// The linked files decide where they run: on a GPU, on the emulated GPU, or, with no_cuda.cpp, nowhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cpp/kernels/workspaces.hpp"
#include "../cpp/ops/augment.hpp"
#include "../cpp/shapes.hpp"

namespace fastlenet::cuda {

// An error of the device or its driver. The message is one line with the cause and the cure.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One line for show_config(): the build and the device.
std::string status();

// The orders in which the threads of an emulated block can run; on a GPU there is only the hardware's.
std::vector<std::string> thread_orders();
void set_thread_order(const std::string& name);

// --- memory: freed with its last owner; a graph owns the memory that was allocated while it was captured -------------------

using Memory = std::shared_ptr<void>;
Memory allocate(std::size_t bytes);
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_on_device(void* to, const void* from, std::size_t bytes);
void set_bytes(void* to, int value, std::size_t bytes);
void fill(float* to, float value, std::int64_t count);
// Waits for all work so far, copies, and throws an error if a kernel found a wrong value; see Fault.
void copy_to_host(void* to, const void* from, std::size_t bytes);
void synchronize();
// Throws DeviceError unless the pointer is memory of the device in use.
void expect_on_device(const void* pointer);

// --- graphs: work recorded once and launched as a whole --------------------------------------------------------------------

class Graph {
 public:
  static void begin();
  static std::unique_ptr<Graph> end();
  // Voids the graph that is being captured, if any.
  static void make_void(const std::string& reason);
  ~Graph();
  // Why it cannot be launched; empty if it can.
  const std::string& reason() const { return reason_; }
  void launch() const;

 private:
  std::string reason_;
  void* executable_ = nullptr;
  std::vector<Memory> memory_;
};

// --- numbers that change from launch to launch of a graph -----------------------------------------------------------------

// A learning rate: factor, times base[0] if base is not null.
struct Rate {
  const double* base;
  double factor;
};

// A number of steps, an epoch or a random generator's counter: offset, plus base[0] if base is not null.
struct Count {
  const std::uint64_t* base;
  std::uint64_t offset;
};

// The progress of a run, on the device. All members count within the epoch, except the last three.
struct Progress {
  double loss_sum;
  unsigned long long correct;  // of the type that CUDA's atomicAdd takes
  std::int64_t images, steps;
  std::uint64_t all_steps, dropout_counter, epoch;
};

// The inputs of a captured step, and where it copies them: the next n images of `order`, their labels and weights, and the
// step's learning rate. all_weights is null if there are none.
struct Turn {
  const Progress* progress;
  const std::int64_t *order, *all_labels;
  const float* all_weights;
  const double* rates;
  std::int64_t *index, *labels;
  float* weights;
  double* rate;
};

void begin_step(const Turn& turn, std::int64_t n);
// Adds the mean loss of n images to the progress, and the number of images with the largest logit at the label; advances it.
void end_step(Progress* progress, const double* loss, const float* logits, const std::int64_t* labels, std::int64_t n,
              std::int64_t classes);
// 1 / sqrt(max(square, at_least)), or 0 if that is 0.
void inverse_root(double* result, const double* square, double at_least);

// --- the ops: as in cpp/ops/ops.hpp, on device pointers; they return before the device has finished ---
//
// The kernels check values that the host cannot see. A wrong value is left out, and the next synchronisation throws
// std::invalid_argument.

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape);
void conv2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const ConvShape& shape);

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape);
void max_pool2d_backward(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape);
void avg_pool2d_forward(float* y, const float* x, const PoolShape& shape);
void avg_pool2d_backward(float* dx, const float* dy, const PoolShape& shape);

void conv2d_relu_max_pool2d_forward(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                                    const ConvPoolShape& shape);
void conv2d_relu_max_pool2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                     const float* x, const float* weight, const ConvPoolShape& shape);

void linear_forward(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape);
void linear_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const LinearShape& shape);

void relu_forward(float* y, const float* x, std::int64_t count);
void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count);
void sigmoid_forward(float* y, const float* x, std::int64_t count);
void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count);
void tanh_forward(float* y, const float* x, std::int64_t count);
void tanh_backward(float* dx, const float* dy, const float* y, std::int64_t count);
void leaky_relu_forward(float* y, const float* x, std::int64_t count, float slope);
void leaky_relu_backward(float* dx, const float* dy, const float* y, std::int64_t count, float slope);
void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, const Count& counter,
                     std::uint64_t offset, std::int64_t count);
void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count);

// loss: one number on the device. batch_size: of the batch that the rows are a part of; it divides their sum.
void softmax_cross_entropy(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                           std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size);
void softmax_squared_error(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                           std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size);
void softmax_distillation(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                          const float* weights, std::int64_t rows, std::int64_t classes, double label_smoothing,
                          double temperature, double mix, std::int64_t batch_size);
void squared_error(double* loss, float* dprediction, const float* prediction, const float* target, std::int64_t count);

// Pixels are std::uint8_t in 0..255 or float in [0, 1]; mean and std, in the host's memory, have one number for each channel.
template <typename Pixel>
void gather_images(float* x, const Pixel* images, const std::int64_t* index, const float* transform, const double* mean,
                   const double* std, const GatherShape& shape);

// A Gaussian's taps for -radius..radius, on the device; empty without elastic distortion.
struct Taps {
  const float* taps;
  std::int64_t radius;
};

// views: null, or count x 2 x 3, as on the CPU.
template <typename Pixel>
void gather_augmented(float* x, const Pixel* images, const std::int64_t* index, const float* views,
                      const Augmentation& augmentation, std::uint64_t seed, const Count& epoch, const Taps& taps,
                      const double* mean, const double* std, const GatherShape& shape);
// field[n][2][h][w]: the displacement of each pixel's source, down and right, before it is multiplied by the strength.
void elastic_field(float* field, const std::int64_t* index, std::uint64_t seed, const Count& epoch, const Taps& taps,
                   const GatherShape& shape);

struct SgdRule {
  float momentum, weight_decay;
  bool nesterov;
};

// The steps update the average in the same pass.
void sgd_step(float* parameters, const float* gradients, float* velocity, const Average& average, const Rate& lr,
              std::int64_t count, const SgdRule& rule);

struct AdamRule {
  double beta1, beta2, eps, weight_decay;
};

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, const Average& average,
               std::int64_t count, const Count& step, const Rate& lr, const AdamRule& rule);
void ema_step(float* average, const float* parameters, std::int64_t count, float decay);
void muon_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
               const std::vector<MatrixPart>& parts, const Rate& lr, const Rate& matrix_lr, const SgdRule& rule);

}  // namespace fastlenet::cuda
