// Gradients through convolution + ReLU + max-pooling, computed from the winners alone. Only the winner of a living window has a
// gradient. So at most one of pool.r * pool.s multiply-adds of the dense convolution is needed, with the same result.
//
// Here the lanes are channels. In rows layout, [h][w][c], the s pixels under one filter row are s*c contiguous floats: of x for
// dweight, of dx for dx. Both gradients are then sums of such rows, scaled by the winners' dy.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The number of sums that fit in registers beside a scalar: 3 filter rows of 100 floats at 16 lanes (21 vectors), 1 at 8 lanes
// (13).
constexpr int kRowVectors = kRegisters == 32 ? 24 : 13;
constexpr int kMaxLines = 5;

// to[line][0..columns) += sum over the winners, in order, of dy * from[offset + line*pitch + 0..columns), for `lines` lines.
// The last
// vector may extend beyond the columns: it may read there, but its results there are dropped.
template <int lines, int vectors>
inline __attribute__((always_inline)) void add_rows(float* to, std::ptrdiff_t to_pitch, const float* from, std::ptrdiff_t pitch,
                                                    const List& list, std::int32_t begin, std::int32_t end, IntVector beyond) {
  Vector sum[lines][vectors];
  for (int line = 0; line < lines; ++line) {
    for (int j = 0; j < vectors; ++j) sum[line][j] = load(to + line * to_pitch + j * kLanes);
  }
  Vector kept[lines];
  for (int line = 0; line < lines; ++line) kept[line] = sum[line][vectors - 1];
  for (std::ptrdiff_t i = begin; i < end; ++i) {
    const float* at = from + list.offset[i];
    const Vector gradient = broadcast(list.value[i]);
    for (int line = 0; line < lines; ++line) {
      for (int j = 0; j < vectors; ++j) sum[line][j] += gradient * load(at + line * pitch + j * kLanes);
    }
  }
  for (int line = 0; line < lines; ++line) {
    sum[line][vectors - 1] = beyond ? kept[line] : sum[line][vectors - 1];
    for (int j = 0; j < vectors; ++j) store(to + line * to_pitch + j * kLanes, sum[line][j]);
  }
}

// -1 in those lanes of the last of `vectors` vectors that are beyond the columns.
inline IntVector lanes_beyond(int vectors, std::ptrdiff_t columns) {
  IntVector beyond;
  for (int lane = 0; lane < kLanes; ++lane) beyond[lane] = (vectors - 1) * kLanes + lane < columns ? 0 : -1;
  return beyond;
}

// The rows of dweight of some channels, [channels][r][pitch], from filter row `line` on. Each channel adds its own winners.
struct WeightRows {
  float* dweight;
  std::ptrdiff_t pitch, channel;
  const float* x;
  std::ptrdiff_t x_line;
  List list;
  const std::int32_t* ends;
  std::int64_t channels;
};

template <int lines, int vectors>
__attribute__((noinline)) void add_weight_rows(const WeightRows& rows, IntVector beyond) {
  std::int32_t begin = 0;
  for (std::int64_t k = 0; k < rows.channels; ++k) {
    const std::int32_t end = rows.ends[k];
    add_rows<lines, vectors>(rows.dweight + k * rows.channel, rows.pitch, rows.x, rows.x_line, rows.list, begin, end, beyond);
    begin = end;
  }
}

// A line of dx. At every output position, the winners at that position add rows of the weights.
struct InputRows {
  float* dx;
  std::ptrdiff_t line, column;
  const float* weight;
  List list;
  const std::int32_t* ends;
  std::int64_t p, q;
};

// Goes column by column: neighbours in a line overlap, and a load of data just stored in two pieces would wait for both stores.
template <int vectors>
__attribute__((noinline)) void add_input_rows(const InputRows& rows, IntVector beyond) {
  for (std::int64_t q = 0; q < rows.q; ++q) {
    for (std::int64_t p = 0; p < rows.p; ++p) {
      const std::int64_t position = p * rows.q + q;
      const std::int32_t begin = position == 0 ? 0 : rows.ends[position - 1], end = rows.ends[position];
      if (end > begin) {
        add_rows<1, vectors>(rows.dx + p * rows.line + q * rows.column, 0, rows.weight, 0, rows.list, begin, end, beyond);
      }
    }
  }
}

// The number of lines whose sums fit in registers, for a number of vectors per line.
constexpr int lines_for(int vectors) { return kRowVectors / vectors < kMaxLines ? kRowVectors / vectors : kMaxLines; }

// Sizes that do not fit in the registers are never used; the table has a single line in their place.
template <int... cell>
inline void add_weight_rows(int lines, int vectors, const WeightRows& rows, IntVector beyond,
                            std::integer_sequence<int, cell...>) {
  static constexpr void (*kFunctions[])(const WeightRows&, IntVector) = {
      add_weight_rows<(cell / kRowVectors + 1 <= lines_for(cell % kRowVectors + 1) ? cell / kRowVectors + 1 : 1),
                      cell % kRowVectors + 1>...};
  kFunctions[(lines - 1) * kRowVectors + vectors - 1](rows, beyond);
}

template <int... cell>
inline void add_input_rows(int vectors, const InputRows& rows, IntVector beyond, std::integer_sequence<int, cell...>) {
  static constexpr void (*kFunctions[])(const InputRows&, IntVector) = {add_input_rows<cell + 1>...};
  kFunctions[vectors - 1](rows, beyond);
}

// Calls body(column, vectors, columns) for a filter row's columns, as many at a time as the registers hold.
template <typename Body>
inline void for_column_groups(std::ptrdiff_t columns, const Body& body) {
  for (std::ptrdiff_t column = 0; column < columns; column += kRowVectors * kLanes) {
    const std::ptrdiff_t width = at_most(columns - column, kRowVectors * kLanes);
    body(column, static_cast<int>((width + kLanes - 1) / kLanes), width);
  }
}

// A load that crosses a cache line costs two. If the pixels' c floats start at up to 4 different lanes, there are as many
// copies of x; each copy is displaced so that one of these starts is aligned. More copies would not fit in the first-level
// cache.
inline std::int64_t starting_lanes(const ConvShape& shape) {
  std::int64_t starts = 1;
  while (shape.c * starts % kLanes != 0) starts *= 2;
  return starts;
}

// The displacement of a copy: it aligns a start at lane copy * kLanes / copies.
inline std::int64_t rows_displacement(std::int64_t copy, const RowsSizes& sizes) {
  return copy == 0 ? 0 : kLanes - copy * (kLanes / sizes.copies);
}

RowsSizes conv2d_rows_sizes(const ConvShape& shape) {
  const std::int64_t line = whole_vectors((shape.w + 2 * shape.padding.w) * shape.c), starts = starting_lanes(shape);
  // Room for a displacement, and for the part of a row's last vector beyond the row.
  const std::int64_t image = (shape.h + 2 * shape.padding.h) * line + 2 * kLanes;
  return {whole_vectors(shape.s * shape.c), line, image, starts <= 4 ? starts : 1};
}

// Calls body(rows, x, positions) for groups of kLanes neighbouring pixels: x in planes, rows[kLanes] in rows layout. The last
// group may repeat pixels of the one before.
template <typename Body>
inline void for_pixel_groups(const ConvShape& shape, std::ptrdiff_t line, const Body& body) {
  const std::ptrdiff_t plane = shape.h * shape.w;
  for (std::ptrdiff_t first = 0; first < plane; first += kLanes) {
    const std::ptrdiff_t start = at_most(first, plane - kLanes);
    std::ptrdiff_t place[kLanes];
    std::int64_t i = start / shape.w, j = start % shape.w;
    for (int lane = 0; lane < kLanes; ++lane) {
      place[lane] = (i + shape.padding.h) * line + (j + shape.padding.w) * shape.c;
      if (++j == shape.w) {
        j = 0;
        ++i;
      }
    }
    for (std::int64_t first_c = 0; first_c < shape.c; first_c += kLanes) {
      const std::ptrdiff_t c = at_most(first_c, shape.c - kLanes);
      body(place, c, c * plane + start);
    }
  }
}

// rows[h + 2*padding.h][line] <- x[c][h][w]; the border is left as it is.
inline void to_rows(float* rows, const float* x, std::ptrdiff_t line, const ConvShape& shape) {
  const std::ptrdiff_t plane = shape.h * shape.w;
  if (shape.c >= kLanes && plane >= kLanes) {
    for_pixel_groups(shape, line, [&](const std::ptrdiff_t* place, std::ptrdiff_t c, std::ptrdiff_t at) {
      Vector block[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) block[lane] = load(x + at + lane * plane);
      transpose(block);
      for (int lane = 0; lane < kLanes; ++lane) store(rows + place[lane] + c, block[lane]);
    });
    return;
  }
  for (std::int64_t i = 0; i < shape.h; ++i) {
    float* to = rows + (i + shape.padding.h) * line + shape.padding.w * shape.c;
    for (std::int64_t j = 0; j < shape.w; ++j) {
      for (std::int64_t c = 0; c < shape.c; ++c) *to++ = x[c * plane + i * shape.w + j];
    }
  }
}

// x[c][h][w] <- rows, without the border.
inline void from_rows(float* x, const float* rows, std::ptrdiff_t line, const ConvShape& shape) {
  const std::ptrdiff_t plane = shape.h * shape.w;
  if (shape.c >= kLanes && plane >= kLanes) {
    for_pixel_groups(shape, line, [&](const std::ptrdiff_t* place, std::ptrdiff_t c, std::ptrdiff_t at) {
      Vector block[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) block[lane] = load(rows + place[lane] + c);
      transpose(block);
      for (int lane = 0; lane < kLanes; ++lane) store(x + at + lane * plane, block[lane]);
    });
    return;
  }
  for (std::int64_t i = 0; i < shape.h; ++i) {
    const float* from = rows + (i + shape.padding.h) * line + shape.padding.w * shape.c;
    for (std::int64_t j = 0; j < shape.w; ++j) {
      for (std::int64_t c = 0; c < shape.c; ++c) x[c * plane + i * shape.w + j] = *from++;
    }
  }
}

void conv2d_weight_to_rows(float* rows, const float* weight, Range k, const ConvShape& shape) {
  const std::ptrdiff_t pitch = whole_vectors(shape.s * shape.c);
  for (std::int64_t channel = k.begin; channel < k.end; ++channel) {
    for (std::int64_t r = 0; r < shape.r; ++r) {
      float* to = rows + (r * shape.k + channel) * pitch;
      for (std::int64_t s = 0; s < shape.s; ++s) {
        for (std::int64_t c = 0; c < shape.c; ++c) {
          to[s * shape.c + c] = weight[((channel * shape.c + c) * shape.r + r) * shape.s + s];
        }
      }
      for (std::ptrdiff_t i = shape.s * shape.c; i < pitch; ++i) to[i] = 0.0f;
    }
  }
}

void conv2d_rows_to_weight(float* weight, const float* rows, std::int64_t parts, std::int64_t part, Range k,
                           const ConvShape& shape) {
  const std::ptrdiff_t pitch = whole_vectors(shape.s * shape.c);
  for (std::int64_t channel = k.begin; channel < k.end; ++channel) {
    for (std::int64_t r = 0; r < shape.r; ++r) {
      const float* row = rows + (channel * shape.r + r) * pitch;
      for (std::ptrdiff_t first = 0; first < pitch; first += kLanes) {
        Vector sum = load(row + first);
        for (std::int64_t j = 1; j < parts; ++j) sum += load(row + j * part + first);
        float lanes[kLanes];
        store(lanes, sum);
        const std::ptrdiff_t end = at_most(shape.s * shape.c - first, kLanes);
        std::int64_t s = first / shape.c, c = first % shape.c;
        for (std::ptrdiff_t i = 0; i < end; ++i) {
          weight[((channel * shape.c + c) * shape.r + r) * shape.s + s] = lanes[i];
          if (++c == shape.c) {
            c = 0;
            ++s;
          }
        }
      }
    }
  }
}

void conv2d_rows_places(const RowsPlaces& places, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const RowsSizes sizes = conv2d_rows_sizes(conv);
  const std::int64_t positions = conv.p * conv.q;
  std::int32_t* position = places.position;
  for (std::int64_t p = 0; p < pool.p; ++p) {
    for (std::int64_t q = 0; q < pool.q; ++q) {
      for (std::int64_t r = 0; r < pool.r; ++r) {
        for (std::int64_t s = 0; s < pool.s; ++s) {
          *position++ = static_cast<std::int32_t>((p * pool.r + r) * conv.q + q * pool.s + s);
        }
      }
      *position++ = static_cast<std::int32_t>(positions);
    }
  }
  for (std::int64_t p = 0; p < conv.p; ++p) {
    for (std::int64_t q = 0; q < conv.q; ++q) {
      const std::int64_t offset = p * sizes.line + q * conv.c;
      const std::int64_t copy = sizes.copies == 1 ? 0 : offset % kLanes / (kLanes / sizes.copies);
      places.offset[p * conv.q + q] = static_cast<std::int32_t>(offset + copy * sizes.image + rows_displacement(copy, sizes));
    }
  }
  places.offset[positions] = 0;
}

// Lists the winners of living windows, channel by channel, in row order: their positions, and for dweight the rows of x under
// them.
// Returns their number. Whether a window is dead cannot be predicted, so nothing here branches on it. Another thread may change
// the
// winners meanwhile: each is read once, and a value that is no place in a window counts as dead.
inline std::int32_t list_winners(const RowsScratch& scratch, const RowsPlaces& places, const float* dy,
                                 const std::uint8_t* winners, const ConvPoolShape& shape) {
  const std::uint32_t area = static_cast<std::uint32_t>(shape.pool.r * shape.pool.s);
  const std::ptrdiff_t windows = shape.pool.p * shape.pool.q;
  const List list = scratch.by_channel;
  std::uint32_t count = 0;
  for (std::int64_t k = 0; k < shape.conv.k; ++k) {
    const std::int32_t* in_window = places.position;
    for (std::ptrdiff_t i = 0; i < windows; ++i, in_window += area + 1) {
      const std::uint32_t read = __atomic_load_n(winners, __ATOMIC_RELAXED), winner = read < area ? read : area;  // dead: area
      const std::int32_t position = in_window[winner];
      scratch.position[count] = position;
      list.offset[count] = places.offset[position];
      list.value[count] = *dy;
      count += (winner - area) >> 31;  // 1 where winner < area
      ++winners;
      ++dy;
    }
    scratch.channel_ends[k] = static_cast<std::int32_t>(count);
  }
  return static_cast<std::int32_t>(count);
}

// bias_sums[k][lanes] += the gradients of the living windows.
inline void add_bias(float* bias_sums, const float* dy, const std::uint8_t* winners, const ConvPoolShape& shape) {
  const std::ptrdiff_t windows = shape.pool.p * shape.pool.q;
  for (std::int64_t k = 0; k < shape.conv.k; ++k, dy += windows, winners += windows) {
    Vector sum = load(bias_sums + k * kLanes);
    std::ptrdiff_t i = 0;
    for (; i + kLanes <= windows; i += kLanes) sum += load_bytes(winners + i) == kDeadWindow ? Vector{} : load(dy + i);
    for (; i < windows; ++i) sum[0] += winners[i] == kDeadWindow ? 0.0f : dy[i];
    store(bias_sums + k * kLanes, sum);
  }
}

inline void add_weight_gradient(float* sums, const RowsScratch& scratch, const float* x, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const RowsSizes sizes = conv2d_rows_sizes(conv);
  to_rows(scratch.x, x, sizes.line, conv);
  for (std::int64_t copy = 1; copy < sizes.copies; ++copy) {
    float* to = scratch.x + copy * sizes.image + rows_displacement(copy, sizes);
    for (std::ptrdiff_t i = 0; i < sizes.image - 2 * kLanes; i += kLanes) store(to + i, load(scratch.x + i));
  }
  // The outer loop takes a few filter rows at a time, so that the lines of x under them stay in the first-level cache.
  for_column_groups(conv.s * conv.c, [&](std::ptrdiff_t column, int vectors, std::ptrdiff_t columns) {
    const int step = lines_for(vectors);
    for (std::int64_t line = 0; line < conv.r; line += step) {
      const WeightRows rows{sums + line * sizes.pitch + column,
                            sizes.pitch,
                            conv.r * sizes.pitch,
                            scratch.x + line * sizes.line + column,
                            sizes.line,
                            scratch.by_channel,
                            scratch.channel_ends,
                            conv.k};
      add_weight_rows(static_cast<int>(at_most(conv.r - line, step)), vectors, rows, lanes_beyond(vectors, columns),
                      std::make_integer_sequence<int, kMaxLines * kRowVectors>{});
    }
  });
}

// Sorts the `count` winners by position, because winners at one position share the store to dx. The sort counts them, then
// places them in the order of the channels. r is the outer loop, to keep a slice of the weights in the first-level cache.
inline void input_gradient(float* dx, const RowsScratch& scratch, std::int32_t count, const float* weight_rows,
                           const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const RowsSizes sizes = conv2d_rows_sizes(conv);
  const std::ptrdiff_t positions = conv.p * conv.q;
  for (std::ptrdiff_t i = 0; i < sizes.image; i += kLanes) store(scratch.dx + i, Vector{});
  std::int32_t* ends = scratch.position_ends;
  for (std::ptrdiff_t i = 0; i < positions; ++i) ends[i] = 0;
  for (std::int32_t i = 0; i < count; ++i) ++ends[scratch.position[i]];
  std::int32_t total = 0;
  for (std::ptrdiff_t i = 0; i < positions; ++i) {
    const std::int32_t begin = total;
    total += ends[i];
    ends[i] = begin;  // moves to the end while winners are placed
  }
  std::int32_t i = 0;
  for (std::int64_t k = 0; k < conv.k; ++k) {
    const std::int32_t offset = static_cast<std::int32_t>(k * sizes.pitch);
    for (; i < scratch.channel_ends[k]; ++i) {
      const std::int32_t place = ends[scratch.position[i]]++;
      scratch.by_position.offset[place] = offset;
      scratch.by_position.value[place] = scratch.by_channel.value[i];
    }
  }
  for (std::int64_t r = 0; r < conv.r; ++r) {
    for_column_groups(conv.s * conv.c, [&](std::ptrdiff_t column, int vectors, std::ptrdiff_t columns) {
      const InputRows rows{scratch.dx + r * sizes.line + column,
                           sizes.line,
                           conv.c,
                           weight_rows + r * conv.k * sizes.pitch + column,
                           scratch.by_position,
                           ends,
                           conv.p,
                           conv.q};
      add_input_rows(vectors, rows, lanes_beyond(vectors, columns), std::make_integer_sequence<int, kRowVectors>{});
    });
  }
  from_rows(dx, scratch.dx, sizes.line, conv);
}

void conv2d_relu_max_pool2d_backward_rows(float* dx, float* sums, float* bias_sums, const RowsScratch& scratch,
                                          const RowsPlaces& places, const float* dy, const std::uint8_t* winners,
                                          const float* x, const float* weight_rows, const ConvPoolShape& shape) {
  const std::int32_t count = list_winners(scratch, places, dy, winners, shape);
  add_bias(bias_sums, dy, winners, shape);
  add_weight_gradient(sums, scratch, x, shape);
  if (dx != nullptr) input_gradient(dx, scratch, count, weight_rows, shape);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
