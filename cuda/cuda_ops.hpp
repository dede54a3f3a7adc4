// The ops on a GPU. Whether they are there is decided by which file is linked, never by an #ifdef in a caller.
#pragma once

namespace fastlenet::cuda {

// One line for show_config(): what is built and found.
const char* status();

}  // namespace fastlenet::cuda
