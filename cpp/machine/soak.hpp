// Looks for lost tiles: threads that load tiles, give up their core, and compare.
#pragma once

#include <string>

#include "../kernels/low_precision/table.hpp"

namespace fastlenet {

// How a thread waits between loading its tiles and using them.
enum class SoakWait { yield, spin, sleep };

// Runs `threads` threads for `seconds`, more threads than cores, so that they are descheduled. unit: one with tiles. Throws
// std::invalid_argument for another one, or if the tiles cannot be used.
SoakCount soak(const std::string& unit, int threads, double seconds, SoakWait wait, TileLosses losses);

}  // namespace fastlenet
