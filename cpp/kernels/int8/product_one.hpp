// Products of one image, by vectors whose lanes are outputs.
#pragma once

#include <utility>

#include "product.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

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

// `vectors` vectors of outputs from k on.
template <int vectors>
__attribute__((noinline)) void multiply_vectors(const Int8Output& y, const Cell* x, const Int8Windows& windows,
                                                const Int8Product& product, std::int64_t k) {
  const Cell* weight = product.weight + k * product.groups;
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

using Vectors = void (*)(const Int8Output&, const Cell*, const Int8Windows&, const Int8Product&, std::int64_t);

template <int... vector>
inline Vectors vectors_of(std::int64_t vectors, std::integer_sequence<int, vector...>) {
  static constexpr Vectors kFunctions[] = {multiply_vectors<vector + 1>...};
  return kFunctions[vectors - 1];
}

void multiply_one(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product) {
  for (std::int64_t k = 0; k < product.outputs; k += kColumn) {
    vectors_of(column_vectors(product.outputs - k), std::make_integer_sequence<int, kVectors>{})(y, x, windows, product, k);
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
