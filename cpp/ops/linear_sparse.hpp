// The products of a linear layer by lists of a factor's non-zero elements, where it is mostly zeros.
//
// What the zeros are multiplied by must be finite, or the dense product would be NaN. Each product returns whether it was
// finite; if it returns false, its outputs are unspecified and the dense product must be taken.
#pragma once

#include <cstdint>

#include "../shapes.hpp"

namespace fastlenet::cpu {

// Whether lists are worth their making: more than half of x[size] are zeros, as far as its beginning shows. The bits of the
// result do not depend on the answer.
bool mostly_zeros(const float* x, std::int64_t size, const LinearShape& shape);

bool forward_by_lists(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape);
// And dbias, which is always whole.
bool weight_gradient_by_lists(float* dweight, float* dbias, const float* dy, const float* x, const LinearShape& shape);
bool input_gradient_by_lists(float* dx, const float* dy, const float* weight, const LinearShape& shape);

}  // namespace fastlenet::cpu
