// Gradients through convolution + ReLU + max-pooling, by the winners alone: a window's loser has no gradient and a dead
// window none at all, so that at most one multiply-add in pool.r * pool.s of the dense convolution is left, with the
// same result.
//
// Here the channels are the lanes. In rows layout, [h][w][c], the s pixels under one filter row are s*c floats in a
// row: of x for dweight, of dx for dx. Both gradients are then the same sum, of rows scaled by the winners' dy.
#pragma once

#include "../kernels.hpp"
#include "gemm.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// As many sums as one pass over the winners keeps in registers, beside a vector and a scalar.
constexpr int kRowVectors = kRegisters == 32 ? 16 : 8;

// to[line][0..columns) += sum over the winners, in order, of dy * from[offset + line*pitch + 0..columns), for `lines`
// lines. The last vector may hang over the columns: it may read there, but what it computes there is dropped.
template <int lines, int vectors>
__attribute__((noinline)) void add_rows(float* to, std::ptrdiff_t to_pitch, const float* from, std::ptrdiff_t pitch,
                                        const Winner* winners, std::ptrdiff_t count, std::ptrdiff_t columns) {
  Vector sum[lines][vectors];
  for (int line = 0; line < lines; ++line) {
    for (int j = 0; j < vectors; ++j) sum[line][j] = load(to + line * to_pitch + j * kLanes);
  }
  IntVector beyond;
  for (int lane = 0; lane < kLanes; ++lane) beyond[lane] = (vectors - 1) * kLanes + lane < columns ? 0 : -1;
  Vector kept[lines];
  for (int line = 0; line < lines; ++line) kept[line] = sum[line][vectors - 1];
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const float* at = from + winners[i].offset;
    const Vector gradient = broadcast(winners[i].gradient);
    for (int line = 0; line < lines; ++line) {
      for (int j = 0; j < vectors; ++j) sum[line][j] += gradient * load(at + line * pitch + j * kLanes);
    }
  }
  for (int line = 0; line < lines; ++line) {
    sum[line][vectors - 1] = beyond ? kept[line] : sum[line][vectors - 1];
    for (int j = 0; j < vectors; ++j) store(to + line * to_pitch + j * kLanes, sum[line][j]);
  }
}

using AddRows = void (*)(float*, std::ptrdiff_t, const float*, std::ptrdiff_t, const Winner*, std::ptrdiff_t, std::ptrdiff_t);

// Lines that fit beside each other for a number of vectors, at most 5.
constexpr int lines_for(int vectors) { return kRowVectors / vectors < 5 ? kRowVectors / vectors : 5; }

template <int... cell>
inline AddRows add_rows_function(int lines, int vectors, std::integer_sequence<int, cell...>) {
  // Sizes that do not fit in the registers are never asked for: their place is taken by the smallest.
  static constexpr AddRows kFunctions[] = {
      add_rows<(cell / kRowVectors + 1 <= lines_for(cell % kRowVectors + 1) ? cell / kRowVectors + 1 : 1),
               cell % kRowVectors + 1>...};
  return kFunctions[(lines - 1) * kRowVectors + vectors - 1];
}

// The same for any number of lines and columns, a register-full at a time.
inline void add_rows(float* to, std::ptrdiff_t to_pitch, const float* from, std::ptrdiff_t pitch, const Winner* winners,
                     std::ptrdiff_t count, std::ptrdiff_t lines, std::ptrdiff_t columns) {
  for (std::ptrdiff_t column = 0; column < columns; column += kRowVectors * kLanes) {
    const std::ptrdiff_t width = at_most(columns - column, kRowVectors * kLanes);
    const int vectors = static_cast<int>((width + kLanes - 1) / kLanes);
    const int step = lines_for(vectors);
    for (std::ptrdiff_t line = 0; line < lines; line += step) {
      add_rows_function(static_cast<int>(at_most(lines - line, step)), vectors,
                        std::make_integer_sequence<int, 5 * kRowVectors>{})(
          to + line * to_pitch + column, to_pitch, from + line * pitch + column, pitch, winners, count, width);
    }
  }
}

// rows[h + 2*padding.h][w + 2*padding.w][c] <- x[c][h][w]; the border is left as it is.
inline void to_rows(float* rows, const float* x, const ConvShape& shape) {
  const std::ptrdiff_t plane = shape.h * shape.w, width = shape.w + 2 * shape.padding.w;
  for (std::int64_t i = 0; i < shape.h; ++i) {
    float* to = rows + ((i + shape.padding.h) * width + shape.padding.w) * shape.c;
    std::int64_t j = 0;
    for (; j + kLanes <= shape.w && shape.c >= kLanes; j += kLanes) {
      std::int64_t c = 0;
      for (; c + kLanes <= shape.c; c += kLanes) {
        Vector block[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) block[lane] = load(x + (c + lane) * plane + i * shape.w + j);
        transpose(block);
        for (int lane = 0; lane < kLanes; ++lane) store(to + (j + lane) * shape.c + c, block[lane]);
      }
      for (; c < shape.c; ++c) {
        for (int lane = 0; lane < kLanes; ++lane) to[(j + lane) * shape.c + c] = x[c * plane + i * shape.w + j + lane];
      }
    }
    for (; j < shape.w; ++j) {
      for (std::int64_t c = 0; c < shape.c; ++c) to[j * shape.c + c] = x[c * plane + i * shape.w + j];
    }
  }
}

// x[c][h][w] <- rows, without the border.
inline void from_rows(float* x, const float* rows, const ConvShape& shape) {
  const std::ptrdiff_t width = shape.w + 2 * shape.padding.w;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t i = 0; i < shape.h; ++i) {
      const float* from = rows + ((i + shape.padding.h) * width + shape.padding.w) * shape.c + c;
      for (std::int64_t j = 0; j < shape.w; ++j) *x++ = from[j * shape.c];
    }
  }
}

std::int64_t conv2d_rows_pitch(const ConvShape& shape) { return (shape.s * shape.c + kLanes - 1) / kLanes * kLanes; }

void conv2d_weight_to_rows(float* rows, const float* weight, const ConvShape& shape) {
  const std::ptrdiff_t pitch = conv2d_rows_pitch(shape);
  for (std::int64_t r = 0; r < shape.r; ++r) {
    for (std::int64_t k = 0; k < shape.k; ++k) {
      float* to = rows + (r * shape.k + k) * pitch;
      for (std::int64_t s = 0; s < shape.s; ++s) {
        for (std::int64_t c = 0; c < shape.c; ++c) {
          to[s * shape.c + c] = weight[((k * shape.c + c) * shape.r + r) * shape.s + s];
        }
      }
      for (std::ptrdiff_t i = shape.s * shape.c; i < pitch; ++i) to[i] = 0.0f;
    }
  }
}

void conv2d_rows_to_weight(float* weight, const float* rows, std::int64_t parts, std::int64_t part, Range k,
                           const ConvShape& shape) {
  const std::ptrdiff_t pitch = conv2d_rows_pitch(shape);
  for (std::int64_t channel = k.begin; channel < k.end; ++channel) {
    for (std::int64_t r = 0; r < shape.r; ++r) {
      const float* row = rows + (channel * shape.r + r) * pitch;
      for (std::ptrdiff_t i = 0; i < shape.s * shape.c; ++i) {
        float sum = row[i];
        for (std::int64_t j = 1; j < parts; ++j) sum += row[j * part + i];
        weight[((channel * shape.c + i % shape.c) * shape.r + r) * shape.s + i / shape.c] = sum;
      }
    }
  }
}

// Where in a framed image, in rows layout, the patch under a window's winner begins.
struct PatchOffsets {
  std::ptrdiff_t winner[256];
  std::ptrdiff_t row, column;  // from one window to the next

  explicit PatchOffsets(const ConvPoolShape& shape) {
    const std::ptrdiff_t c = shape.conv.c, line = (shape.conv.w + 2 * shape.conv.padding.w) * c;
    row = shape.pool.r * line;
    column = shape.pool.s * c;
    for (std::int64_t i = 0; i < 256; ++i) {
      winner[i] = i / shape.pool.s * line + i % shape.pool.s * c;
    }
  }
};

// The living winners of one channel of one image, in row order; returns their end. Written without a branch on the
// winner.
inline Winner* list_winners(Winner* list, const float* dy, const std::uint8_t* winners, std::ptrdiff_t base,
                            const PatchOffsets& offsets, const PoolShape& pool) {
  for (std::int64_t p = 0; p < pool.p; ++p) {
    std::ptrdiff_t at = base + p * offsets.row;
    for (std::int64_t q = 0; q < pool.q; ++q, at += offsets.column) {
      *list = {at + offsets.winner[*winners], *dy++};
      list += *winners++ != 255;
    }
  }
  return list;
}

void conv2d_relu_max_pool2d_backward_weight(float* dweight, float* dbias, float* x_rows, Winner* list, const float* dy,
                                            const std::uint8_t* winners, const float* x, std::int64_t images,
                                            const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PatchOffsets offsets(shape);
  const std::ptrdiff_t width = conv.w + 2 * conv.padding.w, line = width * conv.c;
  const std::ptrdiff_t image_size = (conv.h + 2 * conv.padding.h) * line, window = shape.pool.p * shape.pool.q;
  const std::ptrdiff_t pitch = conv2d_rows_pitch(conv);
  for (std::int64_t n = 0; n < images; ++n) to_rows(x_rows + n * image_size, x + n * conv.c * conv.h * conv.w, conv);
  for (std::int64_t k = 0; k < conv.k; ++k) {
    Winner* end = list;
    for (std::int64_t n = 0; n < images; ++n) {
      const std::ptrdiff_t at = (n * conv.k + k) * window;
      end = list_winners(end, dy + at, winners + at, n * image_size, offsets, shape.pool);
    }
    for (const Winner* winner = list; winner < end; ++winner) dbias[k] += winner->gradient;
    add_rows(dweight + k * conv.r * pitch, pitch, x_rows, line, list, end - list, conv.r, conv.s * conv.c);
  }
}

// The winners of one image are sorted by where their patch begins, since those that share it share the store to dx:
// counted, then placed, in the order of the channels. r is the outer loop, to keep a slice of the weights in the first
// cache.
void conv2d_relu_max_pool2d_backward_input(float* dx, float* dx_rows, Winner* list, std::int64_t* ends, const float* dy,
                                           const std::uint8_t* winners, const float* weight_rows, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::ptrdiff_t width = conv.w + 2 * conv.padding.w, line = width * conv.c;
  const std::ptrdiff_t image_size = (conv.h + 2 * conv.padding.h) * line, pitch = conv2d_rows_pitch(conv);
  const std::ptrdiff_t positions = conv.p * conv.q, windows = pool.p * pool.q;
  for (std::ptrdiff_t i = 0; i < image_size; ++i) dx_rows[i] = 0.0f;
  for (std::ptrdiff_t i = 0; i <= positions; ++i) ends[i] = 0;

  std::ptrdiff_t place[256];  // of a winner, from its window's first position; the dead go to the spare last position
  for (std::int64_t i = 0; i < 256; ++i) place[i] = i / pool.s * conv.q + i % pool.s;
  const auto position = [&](std::ptrdiff_t p, std::ptrdiff_t q, std::uint8_t winner) {
    const std::ptrdiff_t at = p * pool.r * conv.q + q * pool.s + place[winner];
    return winner == 255 ? positions : at;
  };
  const std::uint8_t* winner = winners;
  for (std::int64_t k = 0; k < conv.k; ++k) {
    for (std::int64_t p = 0; p < pool.p; ++p) {
      for (std::int64_t q = 0; q < pool.q; ++q) ++ends[position(p, q, *winner++)];
    }
  }
  std::int64_t total = 0;
  for (std::ptrdiff_t i = 0; i <= positions; ++i) {
    const std::int64_t begin = total;
    total += ends[i];
    ends[i] = begin;  // and moves to the end as the position fills
  }
  winner = winners;
  for (std::int64_t k = 0; k < conv.k; ++k) {
    const float* gradient = dy + k * windows;
    for (std::int64_t p = 0; p < pool.p; ++p) {
      for (std::int64_t q = 0; q < pool.q; ++q) {
        list[ends[position(p, q, *winner++)]++] = {k * pitch, *gradient++};
      }
    }
  }

  for (std::int64_t r = 0; r < conv.r; ++r) {
    std::int64_t begin = 0;
    for (std::int64_t p = 0; p < conv.p; ++p) {
      for (std::int64_t q = 0; q < conv.q; ++q) {
        const std::int64_t end = ends[p * conv.q + q];
        if (end > begin) {
          add_rows(dx_rows + (p + r) * line + q * conv.c, line, weight_rows + r * conv.k * pitch, pitch, list + begin,
                   end - begin, 1, conv.s * conv.c);
        }
        begin = end;
      }
    }
  }
  from_rows(dx, dx_rows, conv);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
