// Products of a block of images by vectors, whose lanes are images.
#pragma once

#include <utility>

#include "cells.hpp"
#include "product.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

// [outputs / kFilters][groups][kFilters]; the last block has as many filters as are left.
void pack_weight(Cell* to, const std::int8_t* weight, std::int64_t outputs, std::int64_t depth) {
  const std::int64_t groups = (depth + kTaps - 1) / kTaps;
  for (std::int64_t first = 0; first < outputs; first += kFilters) {
    const std::int64_t end = first + kFilters < outputs ? first + kFilters : outputs;
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t k = first; k < end; ++k) *to++ = weight_cell(weight + k * depth, group, depth);
    }
  }
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

std::int64_t multiply(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product) {
  for (std::int64_t k = 0; k < product.outputs; k += kFilters) {
    const std::int64_t left = product.outputs - k;
    filters_of(left < kFilters ? left : kFilters, std::make_integer_sequence<int, kFilters>{})(y, x, windows, product, k);
  }
  return 0;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
