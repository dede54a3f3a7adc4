// Networks of int8 on raw images: what fastlenet.quantization computes, with the same bits on every unit, for any number of
// threads and any batch. Each task takes some blocks of images through all layers, so that they stay in the cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../kernels/int8/table.hpp"
#include "../shapes.hpp"

namespace fastlenet::cpu {

// A layer on planes x[features][lanes] of some blocks, one after the other. Its output has the same layout, of uint8, or of
// float if it gives scores.
class Int8Layer {
 public:
  struct Blocks {
    std::int64_t count, lanes;  // lanes: those of the unit, or 1
  };

  Int8Layer(std::int64_t inputs, std::int64_t outputs) : inputs(inputs), outputs(outputs) {}
  virtual ~Int8Layer() = default;

  virtual std::int64_t cells(Blocks) const { return 0; }  // of scratch memory
  virtual bool gives_scores() const { return false; }
  virtual void forward(void* y, const std::uint8_t* x, Cell* cells, Blocks blocks) const = 0;

  const std::int64_t inputs, outputs;  // features of an image
};

// A product's constants, as the quantizer has them. zero_point: -1 for scores.
struct Int8Constants {
  const std::int8_t* weight;
  const std::int32_t* bias;
  const float* multiplier;
  std::int32_t zero_point;
};

// window: of the maximum behind the convolution, in disjoint windows; {1, 1} for none. padding_value: one for each channel.
std::unique_ptr<Int8Layer> int8_conv(const Int8Table& table, const ConvShape& shape, Pair window,
                                     const std::uint8_t* padding_value, const Int8Constants& constants);
std::unique_ptr<Int8Layer> int8_linear(const Int8Table& table, const LinearShape& shape, const Int8Constants& constants);
std::unique_ptr<Int8Layer> int8_max_pool(const PoolShape& shape);
std::unique_ptr<Int8Layer> int8_avg_pool(const PoolShape& shape, const std::uint8_t* zero_point, float multiplier);
std::unique_ptr<Int8Layer> int8_table(std::int64_t features, const std::uint8_t* table);  // of 256 bytes
std::unique_ptr<Int8Layer> int8_scores(std::int64_t features, float scale, std::int32_t zero_point);

// scores[n][outputs of the last layer] of images[n][inputs of the first]. The last layer gives scores, no other does.
void int8_forward(float* scores, const std::uint8_t* images, std::int64_t n, const Int8Table& table,
                  const std::vector<std::unique_ptr<Int8Layer>>& layers);

}  // namespace fastlenet::cpu
