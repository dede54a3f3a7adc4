// Compiled once per unit of int8, with other compiler flags and another namespace, FASTLENET_INT8_UNIT. As in level.cpp,
// everything except the table has internal linkage.
#include "cells.hpp"
#include "product_one.hpp"
#include "table.hpp"
#if FASTLENET_INT8_TILES
#include "product_tiles.hpp"
#else
#include "product_blocks.hpp"
#endif

namespace fastlenet::FASTLENET_INT8_UNIT {

extern const Int8Table kernels;
const Int8Table kernels = {
    .name = FASTLENET_INT8_UNIT_NAME,
    .emulated = FASTLENET_INT8_UNIT_EMULATED,
    .lanes = kLanes,
    .taps = kTaps,
    .together = kPlaces,
#if FASTLENET_INT8_TILES
    .step = kTileLines,
#else
    .step = 1,
#endif
    .interleave = interleave,
    .group = group,
    .spread = spread,
    .weight_size = weight_size,
    .pack_weight = pack_weight,
    .weight_of_one_size = weight_of_one_size,
    .pack_weight_of_one = pack_weight_of_one,
    .multiply = multiply,
    .multiply_one = multiply_one,
#if FASTLENET_INT8_TILES
    .tile_product = tile_product,
#else
    .tile_product = nullptr,
#endif
};

}  // namespace fastlenet::FASTLENET_INT8_UNIT
