// The units of reduced precision: instructions that multiply bfloat16, and their emulations. Which were built, which can be
// used here, and which one is in use.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/low_precision/table.hpp"

namespace fastlenet {

// Names, best first: every unit in this build, and those whose instructions this CPU has. An emulation runs on every CPU.
std::vector<std::string> units_built();
std::vector<std::string> units_available();

// The unit in use: FASTLENET_BF16 if set, else the best of which this CPU and its kernel have the instruction. The first call
// chooses it, and asks for the permission to use tiles if they come into question. Throws std::invalid_argument, with the
// cause and the cure in one line, if there is none.
const LowPrecisionTable& unit();

// The name of the unit in use, or "" before the first call of unit(). Chooses nothing.
std::string unit_in_use();

// Switches the whole process to a unit; for tests and benchmarks. Throws std::invalid_argument as unit() does. "" means that
// the next call of unit() chooses anew.
void set_unit(const std::string& name);

const LowPrecisionTable& unit_named(const std::string& name);  // also one that is not in use; throws alike

// Counts the blocks that were computed again because their tiles had been lost, in this process.
void count_repeats(std::int64_t repeats);
std::int64_t repeats_counted();

// For tests: the losses of tiles that the ops plant on purpose.
TileLosses planted_losses();
void plant_losses(TileLosses losses);

}  // namespace fastlenet
