// The products of a linear layer where one factor is mostly zeros, by lists of its non-zero elements.
//
// The numbers that zeros multiply must be finite, since 0 times an infinity or NaN is NaN. Each product returns whether they
// were finite. If it returns false, its outputs are unspecified, and the caller must compute the dense product.
#pragma once

#include <cstdint>

#include "../shapes.hpp"

namespace fastlenet::cpu {

// Returns whether lists pay: more than half of the first elements of x[size] are zeros. Only speed depends on the answer, not
// the result.
bool mostly_zeros(const float* x, std::int64_t size, const LinearShape& shape);

bool forward_by_lists(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape);
// dx may be null.
bool backward_by_lists(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                       const LinearShape& shape);

}  // namespace fastlenet::cpu
