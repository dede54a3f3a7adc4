// The layers of int8 networks: their constants, packed for a unit, and their work on planes.
#include <algorithm>
#include <cmath>

#include "batches.hpp"
#include "int8_network.hpp"

namespace fastlenet::cpu {

namespace {

using Blocks = Int8Layer::Blocks;

// The constants of a product, packed. weight: [outputs][groups * taps].
struct Packed {
  std::vector<Cell> weight, weight_of_one;
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
  std::vector<std::int64_t> offset;
  std::int32_t zero_point;

  Packed(const Int8Table& table, const std::vector<std::int8_t>& matrix, std::int64_t outputs, const Int8Constants& constants,
         std::vector<std::int64_t> offsets)
      : bias(static_cast<std::size_t>(ceil_divide(outputs, kInt8Padding) * kInt8Padding)),
        multiplier(bias.size()),
        offset(std::move(offsets)),
        zero_point(constants.zero_point) {
    const std::int64_t groups = static_cast<std::int64_t>(offset.size()), depth = groups * table.taps;
    weight.resize(static_cast<std::size_t>(table.weight_size(outputs, groups)));
    weight_of_one.resize(static_cast<std::size_t>(table.weight_of_one_size(outputs, groups)));
    table.pack_weight(weight.data(), matrix.data(), outputs, depth);
    table.pack_weight_of_one(weight_of_one.data(), matrix.data(), outputs, depth);
    std::copy_n(constants.bias, outputs, bias.begin());
    std::copy_n(constants.multiplier, outputs, multiplier.begin());
  }

  Int8Product product(std::int64_t outputs) const {
    const std::int64_t groups = static_cast<std::int64_t>(offset.size());
    return {outputs,           groups,        weight.data(), weight_of_one.data(), bias.data(),
            multiplier.data(), offset.data(), zero_point,    zero_point < 0};
  }
};

void multiply(const Int8Table& table, const Int8Output& y, const Cell* x, const Int8Windows& windows,
              const Int8Product& product, std::int64_t lanes) {
  (lanes == 1 ? table.multiply_one : table.multiply)(y, x, windows, product);
}

// How a convolution's depth is cut into cells. Direct: neighbouring channels of a pixel, in place. Gathered: any neighbours in
// the order (c, r, s), copied for each line of outputs; so 25 taps of one channel take 7 cells and not 25. A copied cell costs
// about as much as eight dot products.
bool prefers_gathering(const ConvShape& conv, std::int64_t taps) {
  const std::int64_t area = conv.r * conv.s, direct = ceil_divide(conv.c, taps) * area;
  const std::int64_t gathered = ceil_divide(conv.c * area, taps);
  return (direct - gathered) * conv.k > 8 * gathered;
}

class Conv final : public Int8Layer {
 public:
  Conv(const Int8Table& table, const ConvShape& conv, Pair window, const std::uint8_t* padding_value,
       const Int8Constants& constants)
      : Int8Layer(conv.c * conv.h * conv.w, conv.k * (conv.p / window.h) * (conv.q / window.w)),
        table_(table),
        conv_(conv),
        window_(window),
        down_(conv.p / window.h),
        across_(conv.q / window.w),
        frame_h_(conv.h + 2 * conv.padding.h),
        frame_w_(conv.w + 2 * conv.padding.w),
        padding_value_(padding_value, padding_value + conv.c),
        gathers_(prefers_gathering(conv, table.taps)),
        packed_(table, matrix(constants.weight), conv.k, constants, offsets()) {
    const std::int64_t area = window.h * window.w;
    area_ = area == 1 ? 1 : ceil_divide(area, 4) * 4;
    const std::int64_t taps = conv.r * conv.s;
    for (std::int64_t i = 0; gathers_ && i < groups() * table.taps; ++i) {
      const std::int64_t at = std::min(i, conv.c * taps - 1);
      tap_.push_back(at / taps * frame() + at % taps / conv.s * frame_w_ + at % conv.s);
    }
    for (std::int64_t w = 0; w < across_; ++w) {
      for (std::int64_t i = 0; i < area_; ++i) {
        const std::int64_t at = i < area ? i : 0, row = at / window.w, column = w * window.w + at % window.w;
        place_.push_back(gathers_ ? row * columns() + column : row * conv.stride.h * frame_w_ + column * conv.stride.w);
      }
    }
  }

  std::int64_t cells(Blocks blocks) const override {
    const std::int64_t framed = is_padded() ? ceil_divide(conv_.c * frame(), 4) : 0;
    return (framed + (gathers_ ? groups() * line() : channel_groups() * frame())) * blocks.lanes;
  }

  void forward(void* y, const std::uint8_t* x, Cell* cells, Blocks blocks) const override {
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::uint8_t* planes = x + block * inputs * blocks.lanes;
      Cell* free = cells;
      if (is_padded()) {
        std::uint8_t* framed = reinterpret_cast<std::uint8_t*>(cells);
        copy_into_frame(framed, planes, blocks.lanes);
        planes = framed;
        free += ceil_divide(conv_.c * frame(), 4) * blocks.lanes;
      }
      if (!gathers_) group_channels(free, planes, blocks.lanes);
      for (std::int64_t row = 0; row < down_; ++row) {
        const Cell* from = free + row * window_.h * conv_.stride.h * frame_w_ * blocks.lanes;
        if (gathers_) gather(free, planes, row, blocks.lanes), from = free;
        std::uint8_t* to = static_cast<std::uint8_t*>(y) + (block * outputs + row * across_) * blocks.lanes;
        multiply(table_, {to, down_ * across_, 1}, from, {place_.data(), across_, area_}, packed_.product(conv_.k),
                 blocks.lanes);
      }
    }
  }

 private:
  bool is_padded() const { return conv_.padding.h != 0 || conv_.padding.w != 0; }
  std::int64_t frame() const { return frame_h_ * frame_w_; }
  std::int64_t columns() const { return across_ * window_.w; }
  std::int64_t line() const { return window_.h * columns(); }
  std::int64_t channel_groups() const { return ceil_divide(conv_.c, table_.taps); }
  std::int64_t groups() const { return ceil_divide(conv_.c * conv_.r * conv_.s, table_.taps); }

  std::vector<std::int8_t> matrix(const std::int8_t* weight) const {
    const std::int64_t area = conv_.r * conv_.s, depth = conv_.c * area, taps = table_.taps;
    const std::int64_t padded = (gathers_ ? groups() : channel_groups() * area) * taps;
    std::vector<std::int8_t> rows(static_cast<std::size_t>(conv_.k * padded));
    for (std::int64_t i = 0; i < conv_.k * depth; ++i) {
      const std::int64_t k = i / depth, c = i % depth / area, tap = i % area;
      const std::int64_t at = gathers_ ? i % depth : (c / taps * area + tap) * taps + c % taps;
      rows[static_cast<std::size_t>(k * padded + at)] = weight[i];
    }
    return rows;
  }

  std::vector<std::int64_t> offsets() const {
    std::vector<std::int64_t> all;
    const std::int64_t area = conv_.r * conv_.s, count = gathers_ ? groups() : channel_groups() * area;
    for (std::int64_t g = 0; g < count; ++g) {
      const std::int64_t r = g % area / conv_.s, s = g % conv_.s;
      all.push_back(gathers_ ? g * line() : g / area * frame() + r * frame_w_ + s);
    }
    return all;
  }

  void copy_into_frame(std::uint8_t* to, const std::uint8_t* x, std::int64_t lanes) const {
    for (std::int64_t c = 0; c < conv_.c; ++c, to += frame() * lanes) {
      std::fill_n(to, frame() * lanes, padding_value_[static_cast<std::size_t>(c)]);
      for (std::int64_t h = 0; h < conv_.h; ++h, x += conv_.w * lanes) {
        std::copy_n(x, conv_.w * lanes, to + ((h + conv_.padding.h) * frame_w_ + conv_.padding.w) * lanes);
      }
    }
  }

  // A missing channel of the last group has weights 0, so it may hold any bytes.
  void group_channels(Cell* to, const std::uint8_t* x, std::int64_t lanes) const {
    for (std::int64_t first = 0; first < conv_.c; first += table_.taps, to += frame() * lanes) {
      const std::uint8_t* from[4];
      for (std::int64_t tap = 0; tap < table_.taps; ++tap) {
        from[tap] = x + std::min(first + tap, conv_.c - 1) * frame() * lanes;
      }
      table_.interleave(to, from, frame(), lanes, 1);
    }
  }

  void gather(Cell* to, const std::uint8_t* x, std::int64_t row, std::int64_t lanes) const {
    const std::int64_t step = conv_.stride.h * frame_w_ * lanes;
    for (std::size_t first = 0; first < tap_.size(); first += static_cast<std::size_t>(table_.taps)) {
      const std::uint8_t* line = x + row * window_.h * step;
      for (std::int64_t i = 0; i < window_.h; ++i, to += columns() * lanes, line += step) {
        const std::uint8_t* from[4];
        for (std::int64_t tap = 0; tap < table_.taps; ++tap)
          from[tap] = line + tap_[first + static_cast<std::size_t>(tap)] * lanes;
        table_.interleave(to, from, columns(), lanes, conv_.stride.w);
      }
    }
  }

  const Int8Table& table_;
  const ConvShape conv_;
  const Pair window_;
  const std::int64_t down_, across_, frame_h_, frame_w_;
  const std::vector<std::uint8_t> padding_value_;
  const bool gathers_;
  const Packed packed_;
  std::vector<std::int64_t> tap_;  // where each tap of the groups lies from its pixel on, if they are gathered
  std::int64_t area_;
  std::vector<std::int64_t> place_;
};

class Linear final : public Int8Layer {
 public:
  Linear(const Int8Table& table, const LinearShape& shape, const Int8Constants& constants)
      : Int8Layer(shape.in, shape.out),
        table_(table),
        groups_(ceil_divide(shape.in, table.taps)),
        packed_(table, matrix(shape, constants.weight), shape.out, constants, offsets()) {
    for (std::int64_t block = 0; block < table.together; ++block) place_.push_back(block * groups_);
  }

  std::int64_t cells(Blocks blocks) const override { return groups_ * blocks.count * blocks.lanes; }
  bool gives_scores() const override { return packed_.zero_point < 0; }

  void forward(void* y, const std::uint8_t* x, Cell* cells, Blocks blocks) const override {
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      table_.group(cells + block * groups_ * blocks.lanes, x + block * inputs * blocks.lanes, inputs, blocks.lanes);
    }
    multiply(table_, {y, 1, outputs}, cells, {place_.data(), blocks.count, 1}, packed_.product(outputs), blocks.lanes);
  }

 private:
  std::vector<std::int8_t> matrix(const LinearShape& shape, const std::int8_t* weight) const {
    const std::int64_t padded = groups_ * table_.taps;
    std::vector<std::int8_t> rows(static_cast<std::size_t>(shape.out * padded));
    for (std::int64_t k = 0; k < shape.out; ++k) std::copy_n(weight + k * shape.in, shape.in, rows.data() + k * padded);
    return rows;
  }

  std::vector<std::int64_t> offsets() const {
    std::vector<std::int64_t> all;
    for (std::int64_t group = 0; group < groups_; ++group) all.push_back(group);
    return all;
  }

  const Int8Table& table_;
  const std::int64_t groups_;
  const Packed packed_;
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

std::unique_ptr<Int8Layer> int8_conv(const Int8Table& table, const ConvShape& shape, Pair window,
                                     const std::uint8_t* padding_value, const Int8Constants& constants) {
  return std::make_unique<Conv>(table, shape, window, padding_value, constants);
}

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
