// NumPy arrays as the kernels see them. Nothing is converted or copied here: an array of
// another type, shape or inner layout is refused, and one whose numbers do not lie at
// multiples of their size. Masks are lost on the way here: svae/kernels refuses them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <new>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace svae {

namespace py = pybind11;

using Array = py::array_t<double, 0>;
using IntArray = py::array_t<std::int64_t, 0>;
using Shape = std::vector<Index>;

inline std::string describe(const Index* sizes, Index count) {
  std::string text = "(";
  for (Index k = 0; k < count; ++k)
    text += std::to_string(sizes[k]) + (k + 1 < count ? ", " : count == 1 ? "," : "");
  return text + ")";
}

inline void require_shape(const char* name, const py::array& array, const Shape& shape) {
  const Index ndim = array.ndim();
  bool agrees = ndim == Index(shape.size());
  for (Index k = 0; agrees && k < ndim; ++k) agrees = array.shape(k) == shape[k];
  if (!agrees)
    throw py::value_error(std::string(name) + " has shape " +
                          describe(array.shape(), ndim) + ", wanted " +
                          describe(shape.data(), Index(shape.size())));
}

// A step along an axis of one entry leads nowhere, whatever its stride is.
inline void require_aligned(const char* name, const py::array& array) {
  bool is_aligned = std::uintptr_t(array.data()) % sizeof(double) == 0;
  for (Index k = 0; k < array.ndim(); ++k)
    is_aligned &= array.shape(k) <= 1 || array.strides(k) % Index(sizeof(double)) == 0;
  if (!is_aligned && array.size() > 0)
    throw py::value_error(std::string(name) +
                          " is not aligned to whole numbers in memory; pass a copy");
}

// A row for each index of the first `outer` axes, contiguous over the others.
template <class T, class ArrayT>
Rows<T> rows_of(const char* name, const ArrayT& array, T* data, Index outer) {
  require_aligned(name, array);
  Index contiguous = sizeof(double);
  for (Index k = array.ndim() - 1; k >= outer; --k) {
    if (array.size() > 0 && array.shape(k) > 1 && array.strides(k) != contiguous)
      throw py::value_error(std::string(name) + " is not contiguous in its last axes");
    contiguous *= array.shape(k);
  }
  const auto stride = [&](Index k) {
    return k < outer && array.shape(k) > 1 ? array.strides(k) / Index(sizeof(double)) : 0;
  };
  return {data, stride(0), stride(1)};
}

// A row for each index of the first `outer` axes of an array of this very shape.
inline Rows<const double> exact_input(const char* name, const Array& array,
                                      const Shape& shape, Index outer) {
  require_shape(name, array, shape);
  return rows_of<const double>(name, array, array.data(), outer);
}

// All numbers of an array of this very shape, one after the other.
inline const double* values(const char* name, const Array& array, const Shape& shape) {
  return exact_input(name, array, shape, 0).data;
}

// A row for each sequence and step; an array with one sequence is shared by all. Its rows
// have the stride zero, so it is never to be read but through them.
inline Rows<const double> input(const char* name, const Array& array, const Shape& shape,
                                Index outer) {
  const bool is_shared = array.ndim() == Index(shape.size()) && array.shape(0) == 1;
  Shape own = shape;
  if (is_shared) own[0] = 1;
  return exact_input(name, array, own, outer);
}

inline std::size_t bytes_of(const Shape& shape) {
  std::size_t bytes = sizeof(double);
  for (const Index size : shape) {
    if (size < 0) throw py::value_error("shape has a negative size");
    if (__builtin_mul_overflow(bytes, std::size_t(size), &bytes)) throw std::bad_alloc();
  }
  return bytes;
}

// A new array for the kernels to fill: all of it if `is_filled`, else it is zero before.
// They leave out what is past the length of a sequence.
inline Array new_array(const Shape& shape, bool is_filled = false) {
  const std::size_t bytes = bytes_of(shape);
  void* data = take_recycled(bytes);
  if (!is_filled) std::memset(data, 0, bytes);
  struct Memory {
    void* data;
    std::size_t bytes;
  };
  const py::capsule owner(new Memory{data, bytes}, [](void* pointer) {
    const Memory* memory = static_cast<Memory*>(pointer);
    give_back(memory->data, memory->bytes);
    delete memory;
  });
  return Array(shape, static_cast<double*>(data), owner);
}

// Whether all sequences have all steps, and there are pairs.
inline bool are_full(const IntArray& lengths, Index num_timesteps) {
  const std::int64_t* values = lengths.data();
  return num_timesteps > 1 && std::all_of(values, values + lengths.size(),
                                          [&](Index T) { return T == num_timesteps; });
}

inline Rows<double> output(Array& array, Index outer) {
  return rows_of<double>("output", array, array.mutable_data(), outer);
}

inline const Index* input_lengths(const IntArray& lengths, Index num_sequences,
                                  Index num_timesteps) {
  require_shape("lengths", lengths, {num_sequences});
  if (!(lengths.flags() & py::array::c_style))
    throw py::value_error("lengths is not contiguous");
  require_aligned("lengths", lengths);
  const std::int64_t* values = lengths.data();
  for (Index n = 0; n < num_sequences; ++n)
    if (values[n] < 1 || values[n] > num_timesteps)
      throw py::value_error("lengths[" + std::to_string(n) + "] is " +
                            std::to_string(values[n]) + ", wanted 1 to " +
                            std::to_string(num_timesteps));
  return reinterpret_cast<const Index*>(values);
}

inline Rows<const double> readable(const Rows<double>& rows) {
  return {rows.data, rows.sequence_stride, rows.time_stride};
}

// Raises svae.errors.<error>(sequence, step) for the first sequence that failed.
inline void raise_failure(const char* error, const std::vector<Index>& failed_step) {
  for (std::size_t n = 0; n < failed_step.size(); ++n) {
    if (failed_step[n] < 0) continue;
    const py::object type = py::module_::import("svae.errors").attr(error);
    const py::object value = type(n, failed_step[n]);
    PyErr_SetObject(type.ptr(), value.ptr());
    throw py::error_already_set();
  }
}

const Kernels& kernels();  // those chosen when the module was loaded

void bind_gaussian_chain(py::module_& module);
void bind_markov_chain(py::module_& module);
void bind_layers(py::module_& module);
void bind_mixture(py::module_& module);
void bind_chain_calls(py::module_& module);

}  // namespace svae
