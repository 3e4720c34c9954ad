// Bindings of the passes over the layers of networks; see svae/_core.pyi. All arrays are
// contiguous. What is said to be in place is written to.
#include <atomic>
#include <optional>

#include "bindings/arrays.hpp"
#include "threads/pool.hpp"

namespace svae {
namespace {

using Matrix = py::array_t<double, py::array::c_style>;
using Mask = py::array_t<bool, py::array::c_style>;

constexpr Index kEntriesOfBlock = 4096;  // a few blocks in the first cache

// Calls task(first, last) for blocks of rows, without the interpreter's lock; `work` is
// about how many operations an entry takes. The blocks do not depend on the threads.
struct Blocks {
  Index num_rows, rows_of_block;
  Blocks(Index num_rows, Index num_columns)
      : num_rows(num_rows),
        rows_of_block(
            std::max<Index>(1, kEntriesOfBlock / std::max<Index>(num_columns, 1))) {}
  Index count() const { return (num_rows + rows_of_block - 1) / rows_of_block; }

  template <class Task>
  void run(double work, const Task& task) const {
    prepare_threads();
    py::gil_scoped_release released;
    run_parallel(count(), work * double(kEntriesOfBlock), [&](Index block, Workspace&) {
      const Index first = block * rows_of_block;
      task(first, std::min(num_rows, first + rows_of_block));
    });
  }
};

struct Sizes {
  Index rows, columns;
};

const double* numbers_of(const char* name, const Matrix& array) {
  require_aligned(name, array);
  return array.data();
}

// An array that is written to. It may not overlap another that the same pass uses.
double* written(const char* name, Matrix& array) {
  if (!array.writeable()) throw py::value_error(std::string(name) + " is read-only");
  numbers_of(name, array);
  return array.mutable_data();
}

void require_apart(const char* name, const Matrix& array, const char* other_name,
                   const py::array& other) {
  const auto first = std::uintptr_t(array.data()), second = std::uintptr_t(other.data());
  if (array.size() > 0 && other.size() > 0 &&
      first < second + std::uintptr_t(other.nbytes()) &&
      second < first + std::uintptr_t(array.nbytes()))
    throw py::value_error(std::string(name) + " shares memory with " + other_name);
}

Sizes sizes_of(const char* name, const Matrix& matrix) {
  if (matrix.ndim() != 2)
    throw py::value_error(std::string(name) + " has to have 2 axes");
  numbers_of(name, matrix);
  return {matrix.shape(0), matrix.shape(1)};
}

const double* row_of(const char* name, const Matrix& array, Index size) {
  require_shape(name, array, {size});
  return numbers_of(name, array);
}

const double* matrix_of(const char* name, const Matrix& array, const Sizes& sizes) {
  require_shape(name, array, {sizes.rows, sizes.columns});
  return numbers_of(name, array);
}

Array activate(const Matrix& inputs, Activation which) {
  const Shape shape(inputs.shape(), inputs.shape() + inputs.ndim());
  Array outputs = new_array(shape, true);
  const double* from = numbers_of("x", inputs);
  if (which == Activation::kLog)
    for (Index i = 0; i < inputs.size(); ++i)
      if (from[i] < 0)
        throw py::value_error("x holds " + std::to_string(from[i]) +
                              ", which has no logarithm");
  double* to = outputs.mutable_data();
  Blocks(inputs.size(), 1).run(20, [&](Index first, Index last) {
    kernels().activate(which, from + first, to + first, last - first);
  });
  return outputs;
}

void tanh_layer(Matrix values, const Matrix& bias) {
  const Sizes sizes = sizes_of("values", values);
  require_apart("values", values, "bias", bias);
  TanhLayer layer{};
  layer.num_rows = sizes.columns;
  layer.values = written("values", values);
  layer.bias = row_of("bias", bias, sizes.rows);
  Blocks(sizes.rows, sizes.columns).run(20, [&](Index first, Index last) {
    kernels().tanh_layer(layer, first, last);
  });
}

py::tuple tanh_layer_vjp(const Matrix& outputs, const Matrix& outputs_bar) {
  const Sizes sizes = sizes_of("outputs", outputs);
  Array inputs_bar = new_array({sizes.rows, sizes.columns}, true);
  Array bias_bar = new_array({sizes.rows}, true);
  TanhLayerAdjoint layer{};
  layer.num_rows = sizes.columns;
  layer.outputs = outputs.data();
  layer.outputs_bar = matrix_of("outputs_bar", outputs_bar, sizes);
  layer.inputs_bar = inputs_bar.mutable_data();
  layer.bias_bar = bias_bar.mutable_data();
  Blocks(sizes.rows, sizes.columns).run(4, [&](Index first, Index last) {
    kernels().tanh_layer_vjp(layer, first, last);
  });
  return py::make_tuple(inputs_bar, bias_bar);
}

py::tuple gaussian_head(Matrix location, Matrix scale, const Matrix& location_bias,
                        const Matrix& scale_bias, const Matrix& data,
                        const std::optional<Mask>& observed, Index num_samples,
                        bool logistic_mean, const std::optional<Matrix>& offset,
                        const std::optional<Matrix>& floor) {
  const Sizes sizes = sizes_of("location", location);
  matrix_of("scale", scale, sizes);
  if (data.ndim() != 3) throw py::value_error("data has to have 3 axes, (N, T, P)");
  const Index N = data.shape(0), T = data.shape(1);
  require_shape("data", data, {N, T, sizes.columns});
  Index num_rows;
  if (num_samples < 0 || __builtin_mul_overflow(N * T, num_samples, &num_rows) ||
      num_rows != sizes.rows)
    throw py::value_error("location has " + std::to_string(sizes.rows) +
                          " rows, wanted " + std::to_string(N * T) + " times " +
                          std::to_string(num_samples) + " samples");
  if (observed) require_shape("observed", *observed, {N, T, sizes.columns});
  require_apart("location", location, "scale", scale);
  const auto require_apart_from_heads = [&](const char* name, const py::array& array) {
    require_apart("location", location, name, array);
    require_apart("scale", scale, name, array);
  };
  require_apart_from_heads("location_bias", location_bias);
  require_apart_from_heads("scale_bias", scale_bias);
  require_apart_from_heads("data", data);
  if (observed) require_apart_from_heads("observed", *observed);
  if (offset) require_apart_from_heads("offset", *offset);
  if (floor) {
    require_apart_from_heads("floor", *floor);
    const double* least = row_of("floor", *floor, sizes.columns);
    for (Index k = 0; k < sizes.columns; ++k)
      if (least[k] <= 0)
        throw py::value_error("floor[" + std::to_string(k) + "] is " +
                              std::to_string(least[k]) + ", wanted positive numbers");
  }
  Array log_density = new_array({sizes.rows}, true), variance_slope;
  if (floor) variance_slope = new_array({sizes.rows, sizes.columns}, true);
  GaussianHead head{};
  head.num_columns = sizes.columns;
  head.num_samples = num_samples;
  head.num_timesteps = T;
  head.logistic_mean = logistic_mean;
  head.location = written("location", location);
  head.scale = written("scale", scale);
  head.location_bias = row_of("location_bias", location_bias, sizes.columns);
  head.scale_bias = row_of("scale_bias", scale_bias, sizes.columns);
  if (offset) head.offset = matrix_of("offset", *offset, sizes);
  head.data = numbers_of("data", data);
  if (observed) head.observed = observed->data();
  if (floor) {
    head.floor = row_of("floor", *floor, sizes.columns);
    head.variance_slope = variance_slope.mutable_data();
  }
  head.log_density = log_density.mutable_data();
  Blocks(sizes.rows, sizes.columns).run(50, [&](Index first, Index last) {
    kernels().gaussian_head(head, first, last);
  });
  if (!floor) return py::make_tuple(log_density, py::none());
  return py::make_tuple(log_density, variance_slope);
}

// The arrays of a tree, whose entries are those of a vector in this order.
bool adam(const std::vector<Matrix>& parameters, const std::vector<Matrix>& gradient,
          const Matrix& mean, const Matrix& square, double rate, double epsilon,
          double mean_decay, double square_decay, Matrix new_vector, Matrix new_mean,
          Matrix new_square) {
  if (parameters.size() != gradient.size())
    throw py::value_error("gradient has " + std::to_string(gradient.size()) +
                          " arrays, wanted " + std::to_string(parameters.size()));
  Index size = 0;
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    size += parameters[k].size();
    if (gradient[k].size() != parameters[k].size())
      throw py::value_error("gradient and parameters have arrays of different sizes");
  }
  const double* first_mean = row_of("mean", mean, size);
  const double* first_square = row_of("square", square, size);
  row_of("new_vector", new_vector, size);
  row_of("new_mean", new_mean, size);
  row_of("new_square", new_square, size);
  require_apart("new_vector", new_vector, "new_mean", new_mean);
  require_apart("new_vector", new_vector, "new_square", new_square);
  require_apart("new_mean", new_mean, "new_square", new_square);
  const std::pair<const char*, const Matrix*> news[] = {
      {"new_vector", &new_vector}, {"new_mean", &new_mean}, {"new_square", &new_square}};
  for (const auto& [name, array] : news) {
    require_apart(name, *array, "mean", mean);
    require_apart(name, *array, "square", square);
    for (const Matrix& part : parameters) require_apart(name, *array, "parameters", part);
    for (const Matrix& part : gradient) require_apart(name, *array, "gradient", part);
  }
  double* to_vector = written("new_vector", new_vector);
  double* to_mean = written("new_mean", new_mean);
  double* to_square = written("new_square", new_square);

  struct Piece {
    AdamStep step;
    Index first, last;
  };
  std::vector<Piece> pieces;
  Index start = 0;
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    AdamStep step{};
    step.mean_decay = mean_decay;
    step.square_decay = square_decay;
    step.rate = rate;
    step.epsilon = epsilon;
    step.vector = numbers_of("parameters", parameters[k]);
    step.gradient = numbers_of("gradient", gradient[k]);
    step.mean = first_mean + start;
    step.square = first_square + start;
    step.new_vector = to_vector + start;
    step.new_mean = to_mean + start;
    step.new_square = to_square + start;
    const Index count = parameters[k].size();
    for (Index first = 0; first < count; first += kEntriesOfBlock)
      pieces.push_back({step, first, std::min(count, first + kEntriesOfBlock)});
    start += count;
  }
  std::atomic<bool> is_finite{true};
  Blocks(Index(pieces.size()), kEntriesOfBlock).run(10, [&](Index first, Index last) {
    for (Index i = first; i < last; ++i)
      if (!kernels().adam(pieces[i].step, pieces[i].first, pieces[i].last))
        is_finite = false;
  });
  return is_finite;
}

}  // namespace

void bind_layers(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  const std::pair<const char*, Activation> activations[] = {
      {"exp", Activation::kExp},
      {"log", Activation::kLog},
      {"tanh", Activation::kTanh},
      {"logistic", Activation::kLogistic},
      {"softplus", Activation::kSoftplus}};
  for (const auto& [name, which] : activations)
    module.def(
        name, [which = which](const Matrix& x) { return activate(x, which); },
        exact("x"));
  module.def(
      "empty", [](const Shape& shape) { return new_array(shape, true); },
      py::arg("shape"), "New array, of memory that others had if there is some.");
  module.def("tanh_layer", tanh_layer, exact("values"), exact("bias"));
  module.def("tanh_layer_vjp", tanh_layer_vjp, exact("outputs"), exact("outputs_bar"));
  module.def("gaussian_head", gaussian_head, exact("location"), exact("scale"),
             exact("location_bias"), exact("scale_bias"), exact("data"),
             py::arg("observed").noconvert().none(true), py::arg("num_samples"),
             py::arg("logistic_mean"), py::arg("offset").noconvert().none(true),
             py::arg("floor").noconvert().none(true));
  module.def("adam", adam, exact("parameters"), exact("gradient"), exact("mean"),
             exact("square"), py::arg("rate"), py::arg("epsilon"), py::arg("mean_decay"),
             py::arg("square_decay"), exact("new_vector"), exact("new_mean"),
             exact("new_square"));
}

}  // namespace svae
