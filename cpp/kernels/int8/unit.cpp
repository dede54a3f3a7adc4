// Compiled once per unit of int8, with other compiler flags and another namespace, FASTLENET_INT8_UNIT. As in level.cpp,
// everything except the table has internal linkage.
#include "cells.hpp"
#include "product.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {

extern const Int8Table kernels;
const Int8Table kernels = {
    .name = FASTLENET_INT8_UNIT_NAME,
    .emulated = FASTLENET_INT8_UNIT_EMULATED,
    .lanes = kLanes,
    .taps = kTaps,
    .together = kPlaces,
    .interleave = interleave,
    .group = group,
    .spread = spread,
    .weight_size = weight_size,
    .pack_weight = pack_weight,
    .weight_of_one_size = weight_of_one_size,
    .pack_weight_of_one = pack_weight_of_one,
    .multiply = multiply,
    .multiply_one = multiply_one,
};

}  // namespace fastlenet::FASTLENET_INT8_UNIT
