// Compiled once per unit, with other compiler flags and another namespace, FASTLENET_UNIT. As in level.cpp, everything except
// the table has internal linkage.
#include "table.hpp"
#if defined(FASTLENET_UNIT_tdpbf16ps)
#include "conv_pool_gradient_tiles.hpp"
#include "conv_pool_tiles.hpp"
#include "product_tiles.hpp"
#else
#include "conv_pool_dot.hpp"
#include "product_dot.hpp"
#endif

namespace fastlenet::FASTLENET_UNIT {

extern const LowPrecisionTable kernels;
const LowPrecisionTable kernels = {
    .name = FASTLENET_UNIT_NAME,
    .instruction = FASTLENET_UNIT_INSTRUCTION,
    .emulated = FASTLENET_UNIT_EMULATED,
    .round = round,
    .pack_rows = pack_rows,
    .pack_columns_as_rows = pack_columns_as_rows,
    .pack_panel = pack_panel,
    .pack_rows_as_panel = pack_rows_as_panel,
    .multiply = multiply,
    .interleave = interleave,
    .deinterleave = deinterleave,
    .deinterleave_bytes = deinterleave_bytes,
#if defined(FASTLENET_UNIT_tdpbf16ps)
    .pair_columns = nullptr,
    .pack_filters = nullptr,
    .conv_pool = nullptr,
    .conv_pool_one = nullptr,
    .pixel_layout = pixel_layout,
    .pack_pixels = pack_pixels,
    .pack_pixel_filters = pack_pixel_filters,
    .conv_pool_tiles = conv_pool_tiles,
    .gradient_layout = gradient_layout,
    .rounds_to_finite = rounds_to_finite,
    .count_living = count_living,
    .pack_flipped_filters = pack_flipped_filters,
    .scatter_to_frame = scatter_to_frame,
    .gradient_of_input = gradient_of_input,
    .scatter_by_place = scatter_by_place,
    .pack_image_pairs = pack_image_pairs,
    .gradient_of_weight = gradient_of_weight,
    .sum_living = sum_living,
    .dot = nullptr,
    .tile_product = tile_product,
    .soak = soak,
#else
    .pair_columns = pair_columns,
    .pack_filters = pack_filters,
    .conv_pool = conv_pool,
    .conv_pool_one = conv_pool_one,
    .pixel_layout = nullptr,
    .pack_pixels = nullptr,
    .pack_pixel_filters = nullptr,
    .conv_pool_tiles = nullptr,
    .gradient_layout = nullptr,
    .rounds_to_finite = nullptr,
    .count_living = nullptr,
    .pack_flipped_filters = nullptr,
    .scatter_to_frame = nullptr,
    .gradient_of_input = nullptr,
    .scatter_by_place = nullptr,
    .pack_image_pairs = nullptr,
    .gradient_of_weight = nullptr,
    .sum_living = nullptr,
    .dot = dot_alone,
    .tile_product = nullptr,
    .soak = nullptr,
#endif
};

}  // namespace fastlenet::FASTLENET_UNIT
