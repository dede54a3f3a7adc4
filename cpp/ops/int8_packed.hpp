// A product of an int8 network: its constants, packed for blocks of images and for one image, and how both read cells.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "../machine/units.hpp"
#include "batches.hpp"
#include "int8_network.hpp"

namespace fastlenet::cpu {

inline std::int64_t round_up(std::int64_t x, std::int64_t to) { return ceil_divide(x, to) * to; }

// step: groups multiplied at once. matrix: [outputs][groups * taps]. The others as in Int8Product.
struct Int8Reading {
  std::int64_t step, groups, pitch;
  std::vector<std::int64_t> offset;
  std::vector<std::int8_t> matrix;
};

class Int8Packed {
 public:
  Int8Packed(const Int8Table& table, std::int64_t outputs, const Int8Constants& constants, const Int8Reading& block,
             const Int8Reading& one)
      : table_(table),
        outputs_(outputs),
        block_(block, table.weight_size(outputs, block.groups)),
        one_(one, table.weight_of_one_size(outputs, one.groups)),
        bias_(static_cast<std::size_t>(round_up(outputs, kInt8Padding))),
        multiplier_(bias_.size()),
        zero_point_(constants.zero_point) {
    table.pack_weight(block_.weight.data(), block.matrix.data(), outputs, block.groups * table.taps);
    table.pack_weight_of_one(one_.weight.data(), one.matrix.data(), outputs, one.groups * table.taps);
    std::copy_n(constants.bias, outputs, bias_.begin());
    std::copy_n(constants.multiplier, outputs, multiplier_.begin());
  }

  bool gives_scores() const { return zero_point_ < 0; }

  void multiply(const Int8Output& y, const Cell* x, const Int8Windows& windows, std::int64_t lanes) const {
    const Part& part = lanes == 1 ? one_ : block_;
    const Int8Product product{outputs_,           part.groups, part.weight.data(), bias_.data(),   multiplier_.data(),
                              part.offset.data(), part.pitch,  zero_point_,        gives_scores(), planted_losses()};
    if (lanes == 1) {
      table_.multiply_one(y, x, windows, product);
    } else {
      count_repeats(table_.multiply(y, x, windows, product));
    }
  }

 private:
  struct Part {
    std::int64_t groups, pitch;
    std::vector<std::int64_t> offset;
    std::vector<Cell> weight;

    Part(const Int8Reading& reading, std::int64_t size)
        : groups(reading.groups), pitch(reading.pitch), offset(reading.offset), weight(static_cast<std::size_t>(size)) {}
  };

  const Int8Table& table_;
  const std::int64_t outputs_;
  Part block_, one_;
  std::vector<std::int32_t> bias_;
  std::vector<float> multiplier_;
  const std::int32_t zero_point_;
};

}  // namespace fastlenet::cpu
