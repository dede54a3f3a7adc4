// Exchanges device arrays with other libraries by the DLPack protocol: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "../../cpp/bindings/gil.hpp"

namespace fastlenet::cuda {

// DLPack 0.8's structures, which every consumer reads.
struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};

constexpr std::int32_t kDLCUDA = 2;

// A capsule that keeps `owner` alive until its consumer has finished. kind and bits: as in NumPy's dtype, 'f', 'i' or 'u'.
inline pybind11::capsule to_dlpack(pybind11::object owner, std::uintptr_t address, std::vector<std::int64_t> shape, char kind,
                                   int bits) {
  struct Exported {
    DLManagedTensor managed;
    std::vector<std::int64_t> shape;
    PyObject* owner;
  };
  const std::uint8_t code = kind == 'f' ? 2 : kind == 'u' ? 1 : 0;
  Exported* exported = new Exported{{}, std::move(shape), owner.release().ptr()};
  const DLDataType dtype{code, static_cast<std::uint8_t>(bits), 1};
  exported->managed = {{reinterpret_cast<void*>(address),
                        {kDLCUDA, 0},
                        static_cast<std::int32_t>(exported->shape.size()),
                        dtype,
                        exported->shape.data(),
                        nullptr,
                        0},
                       exported,
                       [](DLManagedTensor* managed) {
                         Exported* done = static_cast<Exported*>(managed->context);
                         with_gil([done] { Py_DECREF(done->owner); });
                         delete done;
                       }};
  // A consumer renames the capsule. One that nobody consumed frees its tensor.
  return pybind11::reinterpret_steal<pybind11::capsule>(PyCapsule_New(&exported->managed, "dltensor", [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    managed->deleter(managed);
  }));
}

// Returns (owner, address, shape, dtype's name); owner frees the tensor. Raises TypeError for a tensor that is not a dense
// array.
inline pybind11::tuple from_dlpack(pybind11::capsule capsule) {
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (managed == nullptr) throw pybind11::error_already_set();
  const DLTensor& tensor = managed->tensor;
  const std::vector<std::int64_t> shape(tensor.shape, tensor.shape + tensor.ndim);
  std::int64_t dense = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.strides != nullptr && shape[i] > 1 && tensor.strides[i] != dense) {
      throw pybind11::type_error("the array expects dense rows on a GPU, got strides; make it contiguous first");
    }
    dense *= shape[i];
  }
  if (tensor.device.type != kDLCUDA || tensor.dtype.lanes != 1 || tensor.dtype.code > 2) {
    throw pybind11::type_error("the array expects plain numbers in GPU memory");
  }
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  const pybind11::capsule owner(managed, [](void* done) {
    auto* tensor_of = static_cast<DLManagedTensor*>(done);
    if (tensor_of->deleter != nullptr) tensor_of->deleter(tensor_of);
  });
  const char* kinds[] = {"int", "uint", "float"};
  const std::string dtype = kinds[tensor.dtype.code] + std::to_string(tensor.dtype.bits);
  return pybind11::make_tuple(owner, reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset, shape, dtype);
}

}  // namespace fastlenet::cuda
