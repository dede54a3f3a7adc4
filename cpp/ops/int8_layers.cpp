// The layers of int8 networks, except convolutions, and their work on planes.
#include <cmath>

#include "int8_packed.hpp"

namespace fastlenet::cpu {

namespace {

using Blocks = Int8Layer::Blocks;

class Linear final : public Int8Layer {
 public:
  Linear(const Int8Table& table, const LinearShape& shape, const Int8Constants& constants)
      : Int8Layer(shape.in, shape.out),
        table_(table),
        groups_(ceil_divide(shape.in, table.taps)),
        block_groups_(round_up(groups_, table.step)),
        packed_(table, shape.out, constants, reading(shape, constants.weight, block_groups_, table.step),
                reading(shape, constants.weight, groups_, 1)) {
    for (std::int64_t block = 0; block < table.together; ++block) place_.push_back(block * block_groups_);
  }

  std::int64_t cells(Blocks blocks) const override { return block_groups_ * blocks.count * blocks.lanes; }
  bool gives_scores() const override { return packed_.gives_scores(); }

  void forward(void* y, const std::uint8_t* x, Cell* cells, Blocks blocks) const override {
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      table_.group(cells + block * block_groups_ * blocks.lanes, x + block * inputs * blocks.lanes, inputs, blocks.lanes);
    }
    packed_.multiply({y, 1, outputs}, cells, {place_.data(), blocks.count, 1}, blocks.lanes);
  }

 private:
  Int8Reading reading(const LinearShape& shape, const std::int8_t* weight, std::int64_t groups, std::int64_t step) const {
    const std::int64_t padded = groups * table_.taps;
    Int8Reading reading{step, groups, 1, {}, std::vector<std::int8_t>(static_cast<std::size_t>(shape.out * padded))};
    for (std::int64_t k = 0; k < shape.out; ++k)
      std::copy_n(weight + k * shape.in, shape.in, reading.matrix.data() + k * padded);
    for (std::int64_t group = 0; group < groups; group += step) reading.offset.push_back(group);
    return reading;
  }

  const Int8Table& table_;
  const std::int64_t groups_, block_groups_;
  const Int8Packed packed_;
  std::vector<std::int64_t> place_;
};

// The windows of a plane, of which what lies in the padding is left out.
template <typename Visit>
void for_windows(const PoolShape& pool, const Visit& visit) {
  for (std::int64_t p = 0; p < pool.p; ++p) {
    for (std::int64_t q = 0; q < pool.q; ++q) {
      const std::int64_t top = p * pool.stride.h - pool.padding.h, left = q * pool.stride.w - pool.padding.w;
      visit(Range{std::max<std::int64_t>(top, 0), std::min(top + pool.r, pool.h)},
            Range{std::max<std::int64_t>(left, 0), std::min(left + pool.s, pool.w)});
    }
  }
}

class MaxPool final : public Int8Layer {
 public:
  explicit MaxPool(const PoolShape& pool) : Int8Layer(pool.c * pool.h * pool.w, pool.c * pool.p * pool.q), pool_(pool) {}

  void forward(void* y, const std::uint8_t* x, Cell*, Blocks blocks) const override {
    std::uint8_t* to = static_cast<std::uint8_t*>(y);
    const std::int64_t lanes = blocks.lanes;
    for (std::int64_t plane = 0; plane < blocks.count * pool_.c; ++plane, x += pool_.h * pool_.w * lanes) {
      for_windows(pool_, [&](Range rows, Range columns) {
        std::fill_n(to, lanes, std::uint8_t{0});
        for (std::int64_t h = rows.begin; h < rows.end; ++h) {
          for (std::int64_t w = columns.begin; w < columns.end; ++w) {
            const std::uint8_t* from = x + (h * pool_.w + w) * lanes;
            for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = std::max(to[lane], from[lane]);
          }
        }
        to += lanes;
      });
    }
  }

 private:
  const PoolShape pool_;
};

class AvgPool final : public Int8Layer {
 public:
  AvgPool(const PoolShape& pool, const std::uint8_t* zero_point, float multiplier)
      : Int8Layer(pool.c * pool.h * pool.w, pool.c * pool.p * pool.q),
        pool_(pool),
        zero_point_(zero_point, zero_point + pool.c),
        multiplier_(multiplier) {}

  void forward(void* y, const std::uint8_t* x, Cell*, Blocks blocks) const override {
    std::uint8_t* to = static_cast<std::uint8_t*>(y);
    for (std::int64_t plane = 0; plane < blocks.count * pool_.c; ++plane, x += pool_.h * pool_.w * blocks.lanes) {
      const float zero = zero_point_[static_cast<std::size_t>(plane % pool_.c)];
      for_windows(pool_, [&](Range rows, Range columns) {
        for (std::int64_t lane = 0; lane < blocks.lanes; ++lane) {
          std::int32_t sum = 0;
          for (std::int64_t h = rows.begin; h < rows.end; ++h) {
            for (std::int64_t w = columns.begin; w < columns.end; ++w) {
              sum += x[(h * pool_.w + w) * blocks.lanes + lane] - static_cast<std::int32_t>(zero);
            }
          }
          const float mean = std::nearbyint(static_cast<float>(sum) * multiplier_);
          *to++ = static_cast<std::uint8_t>(std::clamp(mean, -zero, 255.0f - zero) + zero);
        }
      });
    }
  }

 private:
  const PoolShape pool_;
  const std::vector<std::uint8_t> zero_point_;
  const float multiplier_;
};

class Table final : public Int8Layer {
 public:
  Table(std::int64_t features, const std::uint8_t* table) : Int8Layer(features, features), table_(table, table + 256) {}

  void forward(void* y, const std::uint8_t* x, Cell*, Blocks blocks) const override {
    std::uint8_t* to = static_cast<std::uint8_t*>(y);
    for (std::int64_t i = 0; i < blocks.count * inputs * blocks.lanes; ++i) to[i] = table_[x[i]];
  }

 private:
  const std::vector<std::uint8_t> table_;
};

class Scores final : public Int8Layer {
 public:
  Scores(std::int64_t features, float scale, std::int32_t zero_point)
      : Int8Layer(features, features), scale_(scale), zero_point_(zero_point) {}

  bool gives_scores() const override { return true; }

  void forward(void* y, const std::uint8_t* x, Cell*, Blocks blocks) const override {
    float* to = static_cast<float*>(y);
    for (std::int64_t i = 0; i < blocks.count * inputs * blocks.lanes; ++i) {
      to[i] = static_cast<float>(x[i] - zero_point_) * scale_;
    }
  }

 private:
  const float scale_;
  const std::int32_t zero_point_;
};

}  // namespace

std::unique_ptr<Int8Layer> int8_linear(const Int8Table& table, const LinearShape& shape, const Int8Constants& constants) {
  return std::make_unique<Linear>(table, shape, constants);
}

std::unique_ptr<Int8Layer> int8_max_pool(const PoolShape& shape) { return std::make_unique<MaxPool>(shape); }

std::unique_ptr<Int8Layer> int8_avg_pool(const PoolShape& shape, const std::uint8_t* zero_point, float multiplier) {
  return std::make_unique<AvgPool>(shape, zero_point, multiplier);
}

std::unique_ptr<Int8Layer> int8_table(std::int64_t features, const std::uint8_t* table) {
  return std::make_unique<Table>(features, table);
}

std::unique_ptr<Int8Layer> int8_scores(std::int64_t features, float scale, std::int32_t zero_point) {
  return std::make_unique<Scores>(features, scale, zero_point);
}

}  // namespace fastlenet::cpu
