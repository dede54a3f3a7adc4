// The only places where a thread lets go of Python's GIL, and where it waits for it.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>

namespace fastlenet {

namespace py = pybind11;

// Runs what may wait for the GIL. Before Python 3.14 a daemon thread that waits for it while the interpreter ends is unwound,
// as pthread_exit does it: destructors would then touch objects without the GIL, and one that is noexcept would end the program
// by std::terminate. So such a thread waits here for the end of the process, as Python 3.14 has it by itself.
template <typename Wait>
auto wait_for_gil(const Wait& wait) {
  try {
    return wait();
  } catch (const std::exception&) {
    throw;
  } catch (...) {  // the unwinding, which is no exception
    while (true) ::pause();
  }
}

// While it lives, this thread does without the GIL; also for py::call_guard.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    wait_for_gil([this] { PyEval_RestoreThread(state_); });
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

// Runs a computation on raw pointers without the GIL.
template <typename Compute>
auto without_gil(const Compute& compute) {
  const WithoutGil released;
  return compute();
}

// Runs what touches Python objects, from a thread that may not hold the GIL, and not at all once there is no interpreter.
template <typename Touch>
void with_gil(const Touch& touch) {
  if (!Py_IsInitialized()) return;
  const PyGILState_STATE state = wait_for_gil([] { return PyGILState_Ensure(); });
  touch();
  PyGILState_Release(state);
}

}  // namespace fastlenet
