// Convolutions of int8 networks, with the maximum behind them.
#include <memory>

#include "int8_packed.hpp"

namespace fastlenet::cpu {

namespace {

using Blocks = Int8Layer::Blocks;

// How a convolution's depth lies in cells. Direct: neighbouring channels of a pixel, in place. Gathered: any neighbours in the
// order (c, r, s), copied for each line of outputs; so 25 taps of one channel take 7 cells and not 25.
//
// A step of tiles reads 16 cells at equal distances. Gathered, these are lines of cells. Direct, they are neighbours in a
// filter row, so that the channels of a pixel lie together.
class ConvCells {
 public:
  ConvCells(const Int8Table& table, const ConvShape& conv, Pair window, std::int64_t step)
      : conv_(conv),
        window_(window),
        taps_(table.taps),
        step_(step),
        across_(conv.q / window.w),
        channel_groups_(ceil_divide(conv.c, taps_)),
        gathered_groups_(ceil_divide(conv.c * conv.r * conv.s, taps_)),
        gathers_(prefers_gathering()),
        area_(window.h * window.w == 1 ? 1 : round_up(window.h * window.w, 4)) {
    for (std::int64_t i = 0; gathers_ && i < gathered_groups_ * taps_; ++i) {
      const std::int64_t at = std::min(i, conv.c * conv.r * conv.s - 1), tap = at % (conv.r * conv.s);
      tap_.push_back(at / (conv.r * conv.s) * frame() + tap / conv.s * frame_w() + tap % conv.s);
    }
    for (std::int64_t w = 0; w < across_; ++w) {
      for (std::int64_t i = 0; i < area_; ++i) {
        const std::int64_t at = i < window.h * window.w ? i : 0, row = at / window.w, column = w * window.w + at % window.w;
        const std::int64_t pixel = row * conv.stride.h * frame_w() + column * conv.stride.w;
        place_.push_back(gathers_ ? row * columns() + column : pixel * between_pixels());
      }
    }
  }

  std::int64_t size() const {  // for each lane
    return gathers_ ? groups() * line() : channel_groups_ * frame() + step_ - 1;
  }

  Int8Windows windows() const { return {place_.data(), across_, area_}; }

  Int8Reading reading(const std::int8_t* weight) const {
    Int8Reading reading{step_, groups(), gathers_ ? line() : 1, {}, {}};
    for (std::int64_t group = 0; group < groups(); group += step_) reading.offset.push_back(offset(group));
    const std::int64_t area = conv_.r * conv_.s, depth = conv_.c * area;
    reading.matrix.resize(static_cast<std::size_t>(conv_.k * groups() * taps_));
    for (std::int64_t i = 0; i < conv_.k * depth; ++i) {
      const std::int64_t at = i / depth * groups() * taps_ + depth_of(i % depth / area, i % area);
      reading.matrix[static_cast<std::size_t>(at)] = weight[i];
    }
    return reading;
  }

  // Once for each block, and for each line of windows; then x is where the line's places begin.
  void fill(const Int8Table& table, Cell* to, const std::uint8_t* planes, std::int64_t lanes) const {
    if (!gathers_) group_channels(table, to, planes, lanes);
  }
  const Cell* line_of_windows(const Int8Table& table, Cell* to, const std::uint8_t* planes, std::int64_t row,
                              std::int64_t lanes) const {
    if (!gathers_) return to + row * window_.h * conv_.stride.h * frame_w() * between_pixels() * lanes;
    gather(table, to, planes, row, lanes);
    return to;
  }

 private:
  std::int64_t frame_w() const { return conv_.w + 2 * conv_.padding.w; }
  std::int64_t frame() const { return (conv_.h + 2 * conv_.padding.h) * frame_w(); }
  std::int64_t columns() const { return across_ * window_.w; }
  std::int64_t line() const { return window_.h * columns(); }
  std::int64_t between_pixels() const { return step_ == 1 ? 1 : channel_groups_; }
  std::int64_t between_groups() const { return step_ == 1 ? frame() : 1; }
  std::int64_t row_groups() const { return round_up(conv_.s * channel_groups_, step_); }  // of a filter, without gathering
  std::int64_t groups() const { return gathers_ ? round_up(gathered_groups_, step_) : conv_.r * row_groups(); }

  // A copied cell costs about as much as eight dot products. By tiles, a step costs as many cycles as there are outputs, and a
  // copied cell about six.
  bool prefers_gathering() const {
    const std::int64_t direct = conv_.r * row_groups() / step_, gathered = ceil_divide(gathered_groups_, step_);
    return (direct - gathered) * conv_.k > (step_ == 1 ? 8 : 6) * gathered_groups_;
  }

  std::int64_t offset(std::int64_t group) const {
    if (gathers_) return group * line();
    const std::int64_t r = group / row_groups(), at = group % row_groups();
    if (step_ != 1) return r * frame_w() * channel_groups_ + at;
    return at % channel_groups_ * frame() + r * frame_w() + at / channel_groups_;
  }

  // Where a weight stands in its row of the matrix.
  std::int64_t depth_of(std::int64_t c, std::int64_t tap) const {
    if (gathers_) return c * conv_.r * conv_.s + tap;
    const std::int64_t group = tap / conv_.s * row_groups() + tap % conv_.s * channel_groups_ + c / taps_;
    return group * taps_ + c % taps_;
  }

  // A missing channel of the last group has weights 0, so it may hold any bytes.
  void group_channels(const Int8Table& table, Cell* to, const std::uint8_t* x, std::int64_t lanes) const {
    for (std::int64_t group = 0; group < channel_groups_; ++group, to += between_groups() * lanes) {
      const std::uint8_t* from[4];
      for (std::int64_t tap = 0; tap < taps_; ++tap) {
        from[tap] = x + std::min(group * taps_ + tap, conv_.c - 1) * frame() * lanes;
      }
      table.interleave(to, from, frame(), lanes, 1, between_pixels());
    }
  }

  void gather(const Int8Table& table, Cell* to, const std::uint8_t* x, std::int64_t row, std::int64_t lanes) const {
    const std::int64_t step = conv_.stride.h * frame_w() * lanes;
    for (std::int64_t group = 0; group < gathered_groups_; ++group) {
      const std::uint8_t* line = x + row * window_.h * step;
      for (std::int64_t i = 0; i < window_.h; ++i, to += columns() * lanes, line += step) {
        const std::uint8_t* from[4];
        for (std::int64_t tap = 0; tap < taps_; ++tap) {
          from[tap] = line + tap_[static_cast<std::size_t>(group * taps_ + tap)] * lanes;
        }
        table.interleave(to, from, columns(), lanes, conv_.stride.w, 1);
      }
    }
  }

  const ConvShape conv_;
  const Pair window_;
  const std::int64_t taps_, step_, across_, channel_groups_, gathered_groups_;
  const bool gathers_;
  const std::int64_t area_;
  std::vector<std::int64_t> tap_;  // where each tap of the groups lies from its pixel on, if they are gathered
  std::vector<std::int64_t> place_;
};

class Conv final : public Int8Layer {
 public:
  Conv(const Int8Table& table, const ConvShape& conv, Pair window, const std::uint8_t* padding_value,
       const Int8Constants& constants)
      : Int8Layer(conv.c * conv.h * conv.w, conv.k * (conv.p / window.h) * (conv.q / window.w)),
        table_(table),
        conv_(conv),
        down_(conv.p / window.h),
        across_(conv.q / window.w),
        frame_w_(conv.w + 2 * conv.padding.w),
        frame_((conv.h + 2 * conv.padding.h) * frame_w_),
        padding_value_(padding_value, padding_value + conv.c),
        block_(table, conv, window, table.step),
        one_(table, conv, window, 1),
        packed_(table, conv.k, constants, block_.reading(constants.weight), one_.reading(constants.weight)) {}

  std::int64_t cells(Blocks blocks) const override {
    return ((is_padded() ? framed_words() : 0) + layout(blocks.lanes).size()) * blocks.lanes;
  }

  void forward(void* y, const std::uint8_t* x, Cell* cells, Blocks blocks) const override {
    const std::int64_t lanes = blocks.lanes;
    const ConvCells& layout = this->layout(lanes);
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::uint8_t* planes = x + block * inputs * lanes;
      Cell* free = cells;
      if (is_padded()) {
        std::uint8_t* framed = reinterpret_cast<std::uint8_t*>(cells);
        copy_into_frame(framed, planes, lanes);
        planes = framed;
        free += framed_words() * lanes;
      }
      layout.fill(table_, free, planes, lanes);
      for (std::int64_t row = 0; row < down_; ++row) {
        const Cell* from = layout.line_of_windows(table_, free, planes, row, lanes);
        std::uint8_t* to = static_cast<std::uint8_t*>(y) + (block * outputs + row * across_) * lanes;
        packed_.multiply({to, down_ * across_, 1}, from, layout.windows(), lanes);
      }
    }
  }

 private:
  bool is_padded() const { return conv_.padding.h != 0 || conv_.padding.w != 0; }
  std::int64_t framed_words() const { return ceil_divide(conv_.c * frame_, 4); }
  const ConvCells& layout(std::int64_t lanes) const { return lanes == 1 ? one_ : block_; }

  void copy_into_frame(std::uint8_t* to, const std::uint8_t* x, std::int64_t lanes) const {
    for (std::int64_t c = 0; c < conv_.c; ++c, to += frame_ * lanes) {
      std::fill_n(to, frame_ * lanes, padding_value_[static_cast<std::size_t>(c)]);
      for (std::int64_t h = 0; h < conv_.h; ++h, x += conv_.w * lanes) {
        std::copy_n(x, conv_.w * lanes, to + ((h + conv_.padding.h) * frame_w_ + conv_.padding.w) * lanes);
      }
    }
  }

  const Int8Table& table_;
  const ConvShape conv_;
  const std::int64_t down_, across_, frame_w_, frame_;
  const std::vector<std::uint8_t> padding_value_;
  const ConvCells block_, one_;
  const Int8Packed packed_;
};

}  // namespace

std::unique_ptr<Int8Layer> int8_conv(const Int8Table& table, const ConvShape& shape, Pair window,
                                     const std::uint8_t* padding_value, const Int8Constants& constants) {
  return std::make_unique<Conv>(table, shape, window, padding_value, constants);
}

}  // namespace fastlenet::cpu
