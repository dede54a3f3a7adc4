// Releases Python's GIL and waits for it. No other file does either.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>

namespace fastlenet {

namespace py = pybind11;

// Calls a function that may wait for the GIL. So may each function of the C API that runs Python code, or NumPy's that copy.
// Before Python 3.14, a daemon thread that waits for the GIL while the interpreter ends is unwound, as by pthread_exit. Its
// destructors would then touch objects without the GIL, and a noexcept one would end the program by std::terminate. So such a
// thread waits here for the end of the process, as Python 3.14 makes it do. `wait` itself must own no object.
template <typename Wait>
auto wait_for_gil(const Wait& wait) {
  try {
    return wait();
  } catch (const std::exception&) {
    throw;
  } catch (...) {  // the unwinding of the thread
    while (true) ::pause();
  }
}

// The result of such a function of the C API, or its error.
template <typename Wait>
py::object result_of(const Wait& wait) {
  PyObject* result = wait_for_gil(wait);
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

// Releases the GIL during its lifetime; also for py::call_guard.
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

// Calls a function that touches Python objects, from a thread that may not hold the GIL. Does nothing if the interpreter has
// ended.
template <typename Touch>
void with_gil(const Touch& touch) {
  if (!Py_IsInitialized()) return;
  const PyGILState_STATE state = wait_for_gil([] { return PyGILState_Ensure(); });
  touch();
  PyGILState_Release(state);
}

}  // namespace fastlenet
