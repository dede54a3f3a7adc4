// The units of int8: instructions that multiply bytes, and their emulations. All give the same bits, so the choice is one of
// speed alone.
#pragma once

#include <string>
#include <vector>

#include "../kernels/int8/table.hpp"

namespace fastlenet {

// Names, best first: every unit in this build, and those whose instructions this CPU has. An emulation runs on every CPU.
std::vector<std::string> int8_units_built();
std::vector<std::string> int8_units_available();

// The unit in use: that of set_int8_unit, else FASTLENET_INT8 if set, else the best available one whose instructions belong to
// the level in use; it may ask the kernel for the permission to use tiles, and does without if it is refused. Throws
// std::invalid_argument for a FASTLENET_INT8 that is unknown or that this CPU lacks.
const Int8Table& int8_unit();

// Switches the whole process to a unit; for tests and benchmarks. Throws std::invalid_argument as int8_unit() does. "" means
// that it is chosen anew.
void set_int8_unit(const std::string& name);

const Int8Table& int8_unit_named(const std::string& name);  // also one that is not in use; throws alike

}  // namespace fastlenet
