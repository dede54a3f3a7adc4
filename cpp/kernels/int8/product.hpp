// Products of a block of images, whose lanes are images, and of one image, whose lanes are outputs. With windows, as of a
// convolution behind which there is a maximum, only the largest sum of each is requantised: a multiplier is never negative, so
// the maximum may come first.
#pragma once

#include <utility>

#include "dot.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

constexpr std::int32_t kLeast = -2147483647 - 1;

inline __attribute__((always_inline)) void finish(void* y, std::int64_t at, Sums sums, const Int8Product& product,
                                                  std::int64_t output) {
  const Floats multiplier = broadcast(product.multiplier[output]);
  if (product.scores) {
    const Floats scores = __builtin_convertvector(sums, Floats) * multiplier;
    __builtin_memcpy(static_cast<float*>(y) + at * kLanes, &scores, sizeof scores);
    return;
  }
  const Bytes bytes = requantised(sums, multiplier, product.zero_point);
  __builtin_memcpy(static_cast<std::uint8_t*>(y) + at * kLanes, &bytes, sizeof bytes);
}

// The sums of `filters` outputs at `places` places.
template <int filters, int places>
inline __attribute__((always_inline)) void add_up(Sums (&sums)[filters][places], const Cell* x, const std::int64_t* place,
                                                  const Cell* weight, const Sums (&start)[filters],
                                                  const Int8Product& product) {
  const Cell* from[places];
  for (int j = 0; j < places; ++j) {
    from[j] = x + place[j] * kLanes;
    for (int i = 0; i < filters; ++i) sums[i][j] = start[i];
  }
  for (std::int64_t group = 0; group < product.groups; ++group, weight += filters) {
    const std::int64_t offset = product.offset[group] * kLanes;
    Sums taps[filters];
    for (int i = 0; i < filters; ++i) taps[i] = broadcast(weight + i);
    for (int j = 0; j < places; ++j) {
      const Sums cells = in_register(load_vector<Sums>(from[j] + offset));
      for (int i = 0; i < filters; ++i) sums[i][j] = dot(sums[i][j], cells, taps[i]);
    }
  }
}

// `filters` outputs from k on.
template <int filters>
__attribute__((noinline)) void multiply_filters(const Int8Output& y, const Cell* x, const Int8Windows& windows,
                                                const Int8Product& product, std::int64_t k) {
  const Cell* weight = product.weight + k * product.groups;
  const std::int64_t* place = windows.place;
  Sums start[filters];
  for (int i = 0; i < filters; ++i) start[i] = broadcast(product.bias[k + i]);
  if (windows.area > 1) {
    for (std::int64_t window = 0; window < windows.count; ++window) {
      Sums best[filters];
      for (int i = 0; i < filters; ++i) best[i] = broadcast(kLeast);
      for (std::int64_t first = 0; first < windows.area; first += kPlaces, place += kPlaces) {
        Sums sums[filters][kPlaces];
        add_up<filters, kPlaces>(sums, x, place, weight, start, product);
        for (int i = 0; i < filters; ++i) {
          const Sums four = larger(larger(sums[i][0], sums[i][1]), larger(sums[i][2], sums[i][3]));
          best[i] = larger(best[i], four);
        }
      }
      for (int i = 0; i < filters; ++i) finish(y.data, y.at(k + i, window), best[i], product, k + i);
    }
    return;
  }
  std::int64_t window = 0;
  for (; window + kPlaces <= windows.count; window += kPlaces) {
    Sums sums[filters][kPlaces];
    add_up<filters, kPlaces>(sums, x, place + window, weight, start, product);
    for (int i = 0; i < filters; ++i) {
      for (int j = 0; j < kPlaces; ++j) finish(y.data, y.at(k + i, window + j), sums[i][j], product, k + i);
    }
  }
  for (; window < windows.count; ++window) {
    Sums sums[filters][1];
    add_up<filters, 1>(sums, x, place + window, weight, start, product);
    for (int i = 0; i < filters; ++i) finish(y.data, y.at(k + i, window), sums[i][0], product, k + i);
  }
}

using Filters = void (*)(const Int8Output&, const Cell*, const Int8Windows&, const Int8Product&, std::int64_t);

template <int... filter>
inline Filters filters_of(std::int64_t filters, std::integer_sequence<int, filter...>) {
  static constexpr Filters kFunctions[] = {multiply_filters<filter + 1>...};
  return kFunctions[filters - 1];
}

void multiply(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product) {
  for (std::int64_t k = 0; k < product.outputs; k += kFilters) {
    const std::int64_t left = product.outputs - k;
    filters_of(left < kFilters ? left : kFilters, std::make_integer_sequence<int, kFilters>{})(y, x, windows, product, k);
  }
}

// --- one image ---

template <int vectors, int places>
inline __attribute__((always_inline)) void add_up_one(Sums (&sums)[places][vectors], const Cell* x, const std::int64_t* place,
                                                      const Cell* weight, const std::int32_t* bias,
                                                      const Int8Product& product) {
  const Cell* from[places];
  for (int j = 0; j < places; ++j) {
    from[j] = x + place[j];
    for (int i = 0; i < vectors; ++i) sums[j][i] = load_vector<Sums>(bias + i * kLanes);
  }
  for (std::int64_t group = 0; group < product.groups; ++group, weight += vectors * kLanes) {
    const std::int64_t offset = product.offset[group];
    Sums taps[vectors];
    for (int i = 0; i < vectors; ++i) taps[i] = load_vector<Sums>(weight + i * kLanes);
    for (int j = 0; j < places; ++j) {
      const Sums cells = broadcast(from[j] + offset);
      for (int i = 0; i < vectors; ++i) sums[j][i] = dot(sums[j][i], cells, taps[i]);
    }
  }
}

// The outputs from k on, at one window.
template <int vectors>
inline __attribute__((always_inline)) void finish_one(const Int8Output& y, std::int64_t window, const Sums (&sums)[vectors],
                                                      const Int8Product& product, std::int64_t k) {
  for (int i = 0; i < vectors; ++i) {
    const std::int64_t first = k + i * kLanes, left = product.outputs - first;
    const Floats multiplier = load_vector<Floats>(product.multiplier + first);
    if (product.scores) {
      const Floats scores = __builtin_convertvector(sums[i], Floats) * multiplier;
      float each[kLanes];
      __builtin_memcpy(each, &scores, sizeof scores);
      for (int lane = 0; lane < kLanes && lane < left; ++lane) {
        static_cast<float*>(y.data)[y.at(first + lane, window)] = each[lane];
      }
      continue;
    }
    const Bytes bytes = requantised(sums[i], multiplier, product.zero_point);
    std::uint8_t each[kLanes];
    __builtin_memcpy(each, &bytes, sizeof bytes);
    std::uint8_t* to = static_cast<std::uint8_t*>(y.data) + y.at(first, window);
    if (left >= kLanes) {
      for (int lane = 0; lane < kLanes; ++lane, to += y.pitch) *to = each[lane];
    } else {
      for (int lane = 0; lane < left; ++lane, to += y.pitch) *to = each[lane];
    }
  }
}

// `vectors` vectors of outputs from k on.
template <int vectors>
__attribute__((noinline)) void multiply_vectors(const Int8Output& y, const Cell* x, const Int8Windows& windows,
                                                const Int8Product& product, std::int64_t k) {
  const Cell* weight = product.weight_of_one + k * product.groups;
  const std::int32_t* bias = product.bias + k;
  const std::int64_t* place = windows.place;
  if (windows.area > 1) {
    for (std::int64_t window = 0; window < windows.count; ++window) {
      Sums best[vectors];
      for (int i = 0; i < vectors; ++i) best[i] = broadcast(kLeast);
      for (std::int64_t first = 0; first < windows.area; first += kPlaces, place += kPlaces) {
        Sums sums[kPlaces][vectors];
        add_up_one<vectors, kPlaces>(sums, x, place, weight, bias, product);
        for (int i = 0; i < vectors; ++i) {
          best[i] = larger(best[i], larger(larger(sums[0][i], sums[1][i]), larger(sums[2][i], sums[3][i])));
        }
      }
      finish_one<vectors>(y, window, best, product, k);
    }
    return;
  }
  std::int64_t window = 0;
  for (; window + kPlaces <= windows.count; window += kPlaces) {
    Sums sums[kPlaces][vectors];
    add_up_one<vectors, kPlaces>(sums, x, place + window, weight, bias, product);
    for (int j = 0; j < kPlaces; ++j) finish_one<vectors>(y, window + j, sums[j], product, k);
  }
  for (; window < windows.count; ++window) {
    Sums sums[1][vectors];
    add_up_one<vectors, 1>(sums, x, place + window, weight, bias, product);
    finish_one<vectors>(y, window, sums[0], product, k);
  }
}

template <int... vector>
inline Filters vectors_of(std::int64_t vectors, std::integer_sequence<int, vector...>) {
  static constexpr Filters kFunctions[] = {multiply_vectors<vector + 1>...};
  return kFunctions[vectors - 1];
}

void multiply_one(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product) {
  for (std::int64_t k = 0; k < product.outputs; k += kColumn) {
    vectors_of(column_vectors(product.outputs - k), std::make_integer_sequence<int, kVectors>{})(y, x, windows, product, k);
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
