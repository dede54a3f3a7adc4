// One training step of LeNet on one thread, the ops that LeNet-5 has instead, and one image through LeNet, on fixed
// pseudo-random data, for Callgrind: each op's instructions are a dump of their own, "desc: Trigger: Client Request: NAME" with
// its totals. tools/guard.py compares them with those of benchmarks/results/guard.json. No Python is counted, and nothing
// depends on the time.
//
//     g++ -std=c++17 -O2 tests/cpp/kernel_count.cpp BUILD/libfastlenet_cpu.a -o kernel_count -pthread
//     FASTLENET_ISA=x86-64-v3 valgrind --tool=callgrind --collect-atstart=no ./kernel_count
#include <valgrind/callgrind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "../../cpp/machine/int8_units.hpp"
#include "../../cpp/machine/isa.hpp"
#include "../../cpp/machine/parallel.hpp"
#include "../../cpp/machine/units.hpp"
#include "../../cpp/ops/elementwise.hpp"
#include "../../cpp/ops/int8_network.hpp"
#include "../../cpp/ops/ops.hpp"

namespace {

using namespace fastlenet;
using Floats = std::vector<float>;

constexpr std::int64_t kBatch = 64, kImages = 256;

// Steele et al. 2014, SplitMix64: the same numbers with every compiler and library.
struct Random {
  std::uint64_t state;

  std::uint64_t bits() {
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  Floats uniform(std::int64_t size, float low, float high) {
    Floats values(static_cast<std::size_t>(size));
    for (float& value : values) value = low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24f;
    return values;
  }
};

// Counts what `op` executes. The call before, not counted, makes its scratch memory.
template <typename Op>
void count(const char* name, const Op& op) {
  op();
  CALLGRIND_ZERO_STATS;
  CALLGRIND_TOGGLE_COLLECT;
  op();
  CALLGRIND_TOGGLE_COLLECT;
  CALLGRIND_DUMP_STATS_AT(name);
}

struct Convolution {
  ConvPoolShape shape;
  std::int64_t inputs, outputs;
  Floats weight, bias, dweight, dbias;

  // Weights as they are initialised, within 1/sqrt(c*r*s); a negative bias, for as many dead windows as after training.
  Convolution(Random& random, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t k, float dead, std::int64_t r = 5,
              std::int64_t padding = 0)
      : shape(conv_pool_shape("count", {n, c, h, h}, {k, c, r, r}, {padding, padding}, {2, 2})),
        inputs(n * c * h * h),
        outputs(n * k * shape.pool.p * shape.pool.q) {
    const float bound = 1.0f / std::sqrt(static_cast<float>(c * r * r));
    weight = random.uniform(k * c * r * r, -bound, bound);
    bias = Floats(static_cast<std::size_t>(k), -dead);
    dweight = weight;
    dbias = bias;
  }
};

struct Linear {
  LinearShape shape;
  Floats weight, bias, dweight, dbias;

  Linear(Random& random, std::int64_t n, std::int64_t in, std::int64_t out, float dead) : shape{n, in, out} {
    const float bound = 1.0f / std::sqrt(static_cast<float>(in));
    weight = random.uniform(out * in, -bound, bound);
    bias = Floats(static_cast<std::size_t>(out), -dead);
    dweight = weight;
    dbias = bias;
  }
};

double alive(const Floats& y) {
  return static_cast<double>(std::count_if(y.begin(), y.end(), [](float v) { return v > 0.0f; })) /
         static_cast<double>(y.size());
}

std::vector<std::uint8_t> bytes(std::int64_t size) { return std::vector<std::uint8_t>(static_cast<std::size_t>(size)); }
Floats zeros(std::int64_t size) { return Floats(static_cast<std::size_t>(size)); }

// Images with a bright square on black each, as digits are mostly black.
std::vector<std::uint8_t> make_images(Random& random) {
  std::vector<std::uint8_t> images = bytes(kImages * 784);
  for (std::int64_t image = 0; image < kImages; ++image) {
    for (std::int64_t i = 7; i < 21; ++i) {
      for (std::int64_t j = 7; j < 21; ++j) {
        images[static_cast<std::size_t>(image * 784 + i * 28 + j)] = static_cast<std::uint8_t>(random.bits() >> 56);
      }
    }
  }
  return images;
}

void training_step() {
  Random random{1};
  const std::vector<std::uint8_t> images = make_images(random);
  std::vector<std::int64_t> index(kBatch), labels(kBatch);
  for (std::int64_t i = 0; i < kBatch; ++i) {
    index[static_cast<std::size_t>(i)] = static_cast<std::int64_t>(random.bits() % kImages);
    labels[static_cast<std::size_t>(i)] = static_cast<std::int64_t>(random.bits() % 10);
  }
  Convolution conv1(random, kBatch, 1, 28, 20, 0.4f), conv2(random, kBatch, 20, 12, 50, 0.3f);
  Linear fc1(random, kBatch, 800, 500, 0.02f), fc2(random, kBatch, 500, 10, 0.0f);

  const GatherShape gather{kBatch, kImages, 1, 28, 28};
  const double mean = 0.13, std = 0.31;
  Floats x = zeros(conv1.inputs), y1 = zeros(conv1.outputs), y2 = zeros(conv2.outputs), y3 = zeros(kBatch * 500);
  Floats logits = zeros(kBatch * 10), dlogits = logits, dy3 = y3, dy2 = y2, dy1 = y1;
  std::vector<std::uint8_t> winners1 = bytes(conv1.outputs), winners2 = bytes(conv2.outputs);

  const Augmentation affine{2, 12.0, 0.12, 0.12, 0.0, 4.0, 0}, elastic{2, 12.0, 0.12, 0.12, 34.0, 4.0, 6};
  for (const auto& [name, augmentation] : {std::pair{"gather, affine", affine}, std::pair{"gather, elastic", elastic}}) {
    count(name, [&, &chosen = augmentation] {
      cpu::gather_augmented(x.data(), images.data(), index.data(), nullptr, chosen, 1, 0, &mean, &std, gather);
    });
  }
  count("gather", [&] { cpu::gather_images(x.data(), images.data(), index.data(), nullptr, &mean, &std, gather); });

  const auto convolve = [&](const char* name, Convolution& conv, Floats& y, std::vector<std::uint8_t>& winners,
                            const Floats& input, cpu::Algorithm algorithm) {
    count(name, [&] {
      cpu::conv2d_relu_max_pool2d_forward(y.data(), winners.data(), input.data(), conv.weight.data(), conv.bias.data(), nullptr,
                                          algorithm, conv.shape);
    });
  };
  convolve("conv1 forward", conv1, y1, winners1, x, cpu::Algorithm::direct);
  convolve("conv2 forward by Winograd", conv2, y2, winners2, y1, cpu::Algorithm::winograd);
  convolve("conv2 forward", conv2, y2, winners2, y1, cpu::Algorithm::direct);
  count("fc1 forward", [&] { cpu::linear_forward(y3.data(), y2.data(), fc1.weight.data(), fc1.bias.data(), fc1.shape); });
  count("relu forward", [&] { cpu::map<&KernelTable::relu_forward>(y3.data(), y3.data(), kBatch * 500); });
  count("fc2 forward", [&] { cpu::linear_forward(logits.data(), y3.data(), fc2.weight.data(), fc2.bias.data(), fc2.shape); });
  count("loss",
        [&] { cpu::softmax_cross_entropy(dlogits.data(), logits.data(), labels.data(), nullptr, kBatch, 10, 0.0, kBatch); });

  const auto connect = [&](const char* name, Linear& layer, Floats& dx, const Floats& dy, const Floats& input) {
    count(name, [&] {
      cpu::linear_backward(dx.data(), layer.dweight.data(), layer.dbias.data(), dy.data(), input.data(), layer.weight.data(),
                           layer.shape);
    });
  };
  connect("fc2 backward", fc2, dy3, dlogits, y3);
  count("relu backward",
        [&] { cpu::map_gradient<&KernelTable::relu_backward>(dy3.data(), dy3.data(), y3.data(), kBatch * 500); });
  connect("fc1 backward", fc1, dy2, dy3, y2);
  count("conv2 backward", [&] {
    cpu::conv2d_relu_max_pool2d_backward(dy1.data(), conv2.dweight.data(), conv2.dbias.data(), dy2.data(), winners2.data(),
                                         y1.data(), conv2.weight.data(), conv2.shape);
  });
  count("conv1 backward", [&] {
    cpu::conv2d_relu_max_pool2d_backward(nullptr, conv1.dweight.data(), conv1.dbias.data(), dy1.data(), winners1.data(),
                                         x.data(), conv1.weight.data(), conv1.shape);
  });
  Floats velocity = zeros(500 * 800);
  count("sgd step", [&] {
    cpu::sgd_step(fc1.weight.data(), fc1.dweight.data(), velocity.data(), {nullptr, 0.0f}, 500 * 800,
                  {0.01f, 0.9f, 0.0f, true});
  });
  Random of_muon{5};
  Floats matrices = of_muon.uniform(25'520, -1.0f, 1.0f), turned = of_muon.uniform(25'520, -1.0f, 1.0f), speed = zeros(25'520);
  count("muon step", [&] {
    cpu::muon_step(matrices.data(), turned.data(), speed.data(), {nullptr, 0.0f}, 25'520, {{0, 20, 25}, {520, 50, 500}},
                   {{0.01f, 0.9f, 0.0f, true}, 0.02});
  });
  std::printf("alive: %.0f %% of conv1's windows, %.0f %% of conv2's, %.0f %% of fc1's outputs\n", 100 * alive(y1),
              100 * alive(y2), 100 * alive(y3));
}

// What LeNet-5 has in place of the fused op: tanh and the mean of 2x2 windows, at the shapes of its first layer; and leaky
// ReLU.
void lenet5() {
  Random random{3};
  const PoolShape pool = pool_shape("count", {kBatch, 6, 28, 28}, {2, 2}, {2, 2}, {0, 0});
  const std::int64_t pixels = kBatch * 6 * 28 * 28, windows = kBatch * 6 * 14 * 14;
  const Floats x = random.uniform(pixels, -2.0f, 2.0f), dy = random.uniform(pixels, -1.0f, 1.0f);
  Floats y = x, dx = x, means = zeros(windows);
  const float slope = 0.01f;
  count("tanh forward", [&] { cpu::map<&KernelTable::tanh_forward>(y.data(), x.data(), pixels); });
  count("tanh backward", [&] { cpu::map_gradient<&KernelTable::tanh_backward>(dx.data(), dy.data(), y.data(), pixels); });
  count("avg pool forward", [&] { cpu::avg_pool2d_forward(means.data(), y.data(), pool); });
  count("avg pool backward", [&] { cpu::avg_pool2d_backward(dx.data(), means.data(), pool); });
  count("leaky relu forward", [&] { cpu::map<&KernelTable::leaky_relu_forward>(y.data(), x.data(), pixels, slope); });
  count("leaky relu backward",
        [&] { cpu::map_gradient<&KernelTable::leaky_relu_backward>(dx.data(), dy.data(), y.data(), pixels, slope); });
}

void one_image() {
  Random random{2};
  Convolution conv1(random, 1, 1, 28, 20, 0.4f), conv2(random, 1, 20, 12, 50, 0.3f);
  Linear fc1(random, 1, 800, 500, 0.02f);
  const Floats x = random.uniform(784, 0.0f, 1.0f);
  Floats y1 = zeros(conv1.outputs), y2 = zeros(conv2.outputs), y3 = zeros(500);
  std::vector<std::uint8_t> winners1 = bytes(conv1.outputs), winners2 = bytes(conv2.outputs);
  count("one image, conv1", [&] {
    cpu::conv2d_relu_max_pool2d_forward(y1.data(), winners1.data(), x.data(), conv1.weight.data(), conv1.bias.data(), nullptr,
                                        cpu::Algorithm::direct, conv1.shape);
  });
  count("one image, conv2", [&] {
    cpu::conv2d_relu_max_pool2d_forward(y2.data(), winners2.data(), y1.data(), conv2.weight.data(), conv2.bias.data(), nullptr,
                                        cpu::Algorithm::direct, conv2.shape);
  });
  count("one image, fc1",
        [&] { cpu::linear_forward_transposed(y3.data(), y2.data(), fc1.weight.data(), fc1.bias.data(), true, fc1.shape); });
}

}  // namespace

// The convolutions of a network of CIFAR's size: 3x3 with padding 1, to 32, 64 and 128 channels.
void cifar() {
  Random random{4};
  Floats x = random.uniform(kBatch * 3 * 32 * 32, -1.0f, 1.0f);
  std::int64_t c = 3, side = 32;
  for (const std::int64_t k : {32, 64, 128}) {
    Convolution conv(random, kBatch, c, side, k, 0.3f, 3, 1);
    Floats y = zeros(conv.outputs), dx = zeros(conv.inputs), dy = random.uniform(conv.outputs, -1.0f, 1.0f);
    std::vector<std::uint8_t> winners = bytes(conv.outputs);
    const std::string name = "3x3, " + std::to_string(c) + " to " + std::to_string(k);
    count((name + " forward by Winograd").c_str(), [&] {
      cpu::conv2d_relu_max_pool2d_forward(y.data(), winners.data(), x.data(), conv.weight.data(), conv.bias.data(), nullptr,
                                          cpu::Algorithm::winograd, conv.shape);
    });
    count((name + " backward").c_str(), [&] {
      cpu::conv2d_relu_max_pool2d_backward(c == 3 ? nullptr : dx.data(), conv.dweight.data(), conv.dbias.data(), dy.data(),
                                           winners.data(), x.data(), conv.weight.data(), conv.shape);
    });
    x = y;
    c = k;
    side /= 2;
  }
}

// The products of bfloat16, on the emulations. Their arithmetic takes many instructions a product, so at few images; the counts
// tell how many products, blocks and packed factors there are.
void low_precision() {
  for (const std::string instruction : {"vdpbf16ps", "tdpbf16ps"}) {
    set_unit(instruction + "-emulated");
    Random random{6};
    Linear layer(random, 40, 100, 70, 0.02f);
    Floats x = random.uniform(40 * 100, -1.0f, 0.5f), dy = random.uniform(40 * 70, -1.0f, 1.0f), y = dy, dx = x;
    for (float& value : x) value = std::max(value, 0.0f);
    count((instruction + ", linear forward").c_str(),
          [&] { cpu::linear_forward_bf16(y.data(), x.data(), layer.weight.data(), layer.bias.data(), nullptr, layer.shape); });
    count((instruction + ", linear backward").c_str(), [&] {
      cpu::linear_backward_bf16(dx.data(), layer.dweight.data(), layer.dbias.data(), dy.data(), x.data(), layer.weight.data(),
                                layer.shape);
    });
    for (const std::int64_t images : {16, 1}) {
      Convolution conv(random, images, 1, 12, 20, 0.4f);
      const Floats pixels = random.uniform(conv.inputs, 0.0f, 1.0f);
      Floats pooled = zeros(conv.outputs);
      std::vector<std::uint8_t> winners = bytes(conv.outputs);
      count((instruction + (images == 1 ? ", one image, conv" : ", conv")).c_str(), [&] {
        cpu::conv2d_relu_max_pool2d_forward_bf16(pooled.data(), winners.data(), pixels.data(), conv.weight.data(),
                                                 conv.bias.data(), nullptr, cpu::Algorithm::direct, conv.shape);
      });
    }
    if (instruction != "tdpbf16ps") continue;  // the other one takes float32's winners
    Convolution conv(random, 8, 5, 8, 20, 0.4f);
    const Floats pixels = random.uniform(conv.inputs, 0.0f, 1.0f), gradient = random.uniform(conv.outputs, -1.0f, 1.0f);
    Floats of_pixels = zeros(conv.inputs);
    std::vector<std::uint8_t> winners = bytes(conv.outputs);  // all are alive: 25 % of 32 images
    count((instruction + ", conv backward").c_str(), [&] {
      cpu::conv2d_relu_max_pool2d_backward_bf16(of_pixels.data(), conv.dweight.data(), conv.dbias.data(), gradient.data(),
                                                winners.data(), pixels.data(), conv.weight.data(), conv.shape);
    });
  }
}

// A layer's constants of int8, and where its memory is.
struct Integers {
  std::vector<std::int8_t> weight;
  std::vector<std::int32_t> bias;
  Floats multiplier;

  Integers(Random& random, std::int64_t outputs, std::int64_t depth)
      : weight(static_cast<std::size_t>(outputs * depth)),
        bias(static_cast<std::size_t>(outputs)),
        multiplier(bias.size(), 0.001f) {
    for (std::int8_t& value : weight) value = static_cast<std::int8_t>(random.bits() % 255 - 127);
  }
  cpu::Int8Constants constants(std::int32_t zero_point) const {
    return {weight.data(), bias.data(), multiplier.data(), zero_point};
  }
};

// LeNet in int8: by AVX2, which Callgrind knows, and on the emulations of VPDPBUSD and of TDPBSUD, whose counts tell how many
// products, cells and requantised sums there are.
void int8_network() {
  for (const std::string name : {"vpmaddwd", "vpdpbusd-emulated", "tdpbsud-emulated"}) {
    set_int8_unit(name);
    const Int8Table& table = int8_unit();
    Random random{7};
    const Integers conv1(random, 20, 25), conv2(random, 50, 500), fc1(random, 500, 800), fc2(random, 10, 500);
    const std::uint8_t zeros[20] = {};
    std::vector<std::unique_ptr<cpu::Int8Layer>> layers;
    layers.push_back(cpu::int8_conv(table, conv_shape("count", {1, 1, 28, 28}, {20, 1, 5, 5}, {1, 1}, {0, 0}), {2, 2}, zeros,
                                    conv1.constants(0)));
    layers.push_back(cpu::int8_conv(table, conv_shape("count", {1, 20, 12, 12}, {50, 20, 5, 5}, {1, 1}, {0, 0}), {2, 2}, zeros,
                                    conv2.constants(0)));
    layers.push_back(cpu::int8_linear(table, {1, 800, 500}, fc1.constants(0)));
    layers.push_back(cpu::int8_linear(table, {1, 500, 10}, fc2.constants(-1)));
    for (const std::int64_t images : {name == "vpmaddwd" ? 64 : 16, 1}) {
      std::vector<std::uint8_t> pixels = bytes(images * 784);
      for (std::uint8_t& pixel : pixels) pixel = static_cast<std::uint8_t>(random.bits());
      Floats scores(static_cast<std::size_t>(images * 10));
      count((name + (images == 1 ? ", one image" : ", LeNet in int8")).c_str(),
            [&] { cpu::int8_forward(scores.data(), pixels.data(), images, table, layers); });
    }
  }
}

int main() {
  select_level();
  set_num_threads(1);
  training_step();
  lenet5();
  one_image();
  cifar();
  low_precision();
  int8_network();
}
