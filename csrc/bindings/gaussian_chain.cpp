// Bindings of the Gaussian chain. All arrays are per sequence; see svae/_core.pyi.
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/gaussian_chunks.hpp"
#include "bindings/packs.hpp"

namespace svae {
namespace {

constexpr const char* kError = "NotPositiveDefinite";

struct Sizes {
  Index N, T, D;
};

Sizes sizes_of(const Array& node_h) {
  if (node_h.ndim() != 3) throw py::value_error("node_h has to have 3 axes, (N, T, D)");
  const Sizes sizes{node_h.shape(0), node_h.shape(1), node_h.shape(2)};
  if (sizes.T < 1 || sizes.D < 1)
    throw py::value_error("node_h has an empty axis of time or of the latent dimension");
  return sizes;
}

// As many matrices as the time axis has: 1, shared by all pairs, or one for each.
Shape pair_shape(const Array& J, const Sizes& sizes) {
  const Index steps = J.ndim() == 4 && J.shape(1) == 1 ? 1 : sizes.T - 1;
  return {sizes.N, steps, sizes.D, sizes.D};
}

Shape node_J_shape(const Array& J, const Sizes& sizes) {
  if (J.ndim() == 4) return {sizes.N, sizes.T, sizes.D, sizes.D};
  return {sizes.N, sizes.T, sizes.D};
}

// Potentials, statistics or cotangents, in the order in which Python passes them, of the
// shapes that the potentials have.
enum Part { kInitJ, kInitH, kJ11, kJ12, kJ22, kNodeJ, kNodeH };
using Arrays = std::array<Array, 7>;
using Shapes = std::array<Shape, 7>;
constexpr const char* kNames[] = {"init_J", "init_h", "J11",   "J12",
                                  "J22",    "node_J", "node_h"};
constexpr Index kOuter[] = {1, 1, 2, 2, 2, 2, 2};

Shapes shapes_of(const Arrays& potentials, const Sizes& sizes) {
  Shapes shapes;
  shapes[kInitJ] = {sizes.N, sizes.D, sizes.D};
  shapes[kInitH] = {sizes.N, sizes.D};
  for (const Part pair : {kJ11, kJ12, kJ22})
    shapes[pair] = pair_shape(potentials[pair], sizes);
  shapes[kNodeJ] = node_J_shape(potentials[kNodeJ], sizes);
  shapes[kNodeH] = {sizes.N, sizes.T, sizes.D};
  return shapes;
}

// rows_of(part) for all parts
template <class T, class RowsOf>
GaussianArrays<T> all_parts(const RowsOf& rows_of) {
  GaussianArrays<T> arrays{};
  arrays.init_J = rows_of(kInitJ);
  arrays.init_h = rows_of(kInitH);
  arrays.J11 = rows_of(kJ11);
  arrays.J12 = rows_of(kJ12);
  arrays.J22 = rows_of(kJ22);
  arrays.node_J = rows_of(kNodeJ);
  arrays.node_h = rows_of(kNodeH);
  return arrays;
}

GaussianArrays<const double> inputs(const Arrays& arrays, const Shapes& shapes) {
  return all_parts<const double>([&](Part part) {
    return input(kNames[part], arrays[part], shapes[part], kOuter[part]);
  });
}

GaussianArrays<double> outputs(Arrays& arrays, const Shapes& shapes, bool are_filled) {
  return all_parts<double>([&](Part part) {
    arrays[part] = new_array(shapes[part], are_filled);
    return output(arrays[part], kOuter[part]);
  });
}

// noise, samples or their cotangents, (N, S, T, D)
Shape noise_shape(const std::optional<Array>& noise, const Sizes& sizes) {
  const Index num_samples = noise && noise->ndim() == 4 ? noise->shape(1) : 0;
  return {sizes.N, num_samples, sizes.T, sizes.D};
}

GaussianProblem problem_of(const Arrays& potentials, const Shapes& shapes,
                           const std::optional<Array>& noise, const IntArray& lengths,
                           const Sizes& sizes) {
  GaussianProblem problem{};
  problem.num_sequences = sizes.N;
  problem.latent_dim = sizes.D;
  problem.dense_nodes = shapes[kNodeJ].size() == 4;
  problem.J11_is_shared = shapes[kJ11][1] == 1;
  problem.J12_is_shared = shapes[kJ12][1] == 1;
  problem.J22_is_shared = shapes[kJ22][1] == 1;
  problem.lengths = input_lengths(lengths, sizes.N, sizes.T);
  problem.potentials = inputs(potentials, shapes);
  if (noise) {
    const Shape shape = noise_shape(noise, sizes);
    problem.noise = input("noise", *noise, shape, 2);
    problem.num_samples = shape[1];
  }
  return problem;
}

Packs packs_of(const GaussianProblem& problem, const Sizes& sizes) {
  const double D = double(sizes.D);
  Packs packs{};
  packs.num_sequences = sizes.N;
  packs.lanes = kernels().gaussian_lanes(problem.latent_dim);
  packs.num_timesteps = sizes.T;
  // Single sequences go to BLAS, which has threads of its own: one of ours is enough.
  packs.work = packs.lanes > 1 ? 7 * D * D * D + 15 * D * D + 50 : 0;
  return packs;
}

py::tuple gaussian_chain(const Arrays& potentials, const std::optional<Array>& noise,
                         const IntArray& lengths) {
  const Sizes sizes = sizes_of(potentials[kNodeH]);
  const Shapes shapes = shapes_of(potentials, sizes);
  const GaussianProblem problem = problem_of(potentials, shapes, noise, lengths, sizes);

  const bool are_filled = are_full(lengths, sizes.T);
  Array log_normalizer = new_array({sizes.N});
  Arrays stats;
  std::vector<Index> failed_step(sizes.N, -1);
  GaussianResult result{};
  result.log_normalizer = log_normalizer.mutable_data();
  result.stats = outputs(stats, shapes, are_filled);
  result.failed_step = failed_step.data();
  py::object samples = py::none();
  if (noise) {
    Array drawn = new_array(noise_shape(noise, sizes), are_filled);
    result.samples = output(drawn, 2);
    samples = drawn;
  }
  if (any_in_chunks(problem)) {
    prepare_threads();
    {
      py::gil_scoped_release released;
      run_in_chunks(problem, result);
    }
    raise_failure(kError, failed_step);
  } else {
    run_packs(packs_of(problem, sizes), kError, failed_step,
              [&](Index first, Workspace& workspace) {
                kernels().gaussian_chain(problem, result, first, workspace);
              });
  }
  return py::make_tuple(log_normalizer, py::cast(stats), samples);
}

py::tuple gaussian_chain_vjp(const Arrays& potentials, const std::optional<Array>& noise,
                             const IntArray& lengths, const Arrays& stats_bar,
                             const std::optional<Array>& samples_bar) {
  const Sizes sizes = sizes_of(potentials[kNodeH]);
  const Shapes shapes = shapes_of(potentials, sizes);
  GaussianProblem problem = problem_of(potentials, shapes, noise, lengths, sizes);
  if (samples_bar && !noise) throw py::value_error("samples_bar needs noise");
  if (!samples_bar) problem.num_samples = 0;

  const bool are_filled = are_full(lengths, sizes.T);
  Arrays potentials_bar;
  std::vector<Index> failed_step(sizes.N, -1);
  GaussianAdjoint adjoint{};
  adjoint.stats_bar = inputs(stats_bar, shapes);
  adjoint.potentials_bar = outputs(potentials_bar, shapes, are_filled);
  adjoint.failed_step = failed_step.data();
  py::object noise_bar = py::none();
  if (noise) {
    const Shape shape = noise_shape(noise, sizes);
    Array cotangent = new_array(shape, are_filled && samples_bar);
    if (samples_bar) adjoint.samples_bar = input("samples_bar", *samples_bar, shape, 2);
    adjoint.noise_bar = output(cotangent, 2);
    noise_bar = cotangent;
  }
  run_packs(packs_of(problem, sizes), kError, failed_step,
            [&](Index first, Workspace& workspace) {
              kernels().gaussian_chain_vjp(problem, adjoint, first, workspace);
            });
  return py::make_tuple(py::cast(potentials_bar), noise_bar);
}

// New arrays for what prefixes say, as a tuple of three.
py::tuple prefixes_of(const Sizes& sizes, bool are_filled, GaussianPrefixes& prefixes) {
  Array log_normalizer = new_array({sizes.N, sizes.T}, are_filled);
  Array mean = new_array({sizes.N, sizes.T, sizes.D}, are_filled);
  Array cov = new_array({sizes.N, sizes.T, sizes.D, sizes.D}, are_filled);
  prefixes.log_normalizer = output(log_normalizer, 2);
  prefixes.mean = output(mean, 2);
  prefixes.cov = output(cov, 2);
  return py::make_tuple(log_normalizer, mean, cov);
}

py::tuple gaussian_filter(const Arrays& potentials, const IntArray& lengths) {
  const Sizes sizes = sizes_of(potentials[kNodeH]);
  const Shapes shapes = shapes_of(potentials, sizes);
  const GaussianProblem problem =
      problem_of(potentials, shapes, std::nullopt, lengths, sizes);

  const bool are_filled = are_full(lengths, sizes.T);
  std::vector<Index> failed_step(sizes.N, -1);
  GaussianFiltering result{};
  const py::tuple filtered = prefixes_of(sizes, are_filled, result.filtered);
  const py::tuple predicted = prefixes_of(sizes, are_filled, result.predicted);
  result.failed_step = failed_step.data();
  run_packs(packs_of(problem, sizes), kError, failed_step,
            [&](Index first, Workspace& workspace) {
              kernels().gaussian_filter(problem, result, first, workspace);
            });
  return py::make_tuple(filtered, predicted);
}

}  // namespace

void bind_gaussian_chain(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("gaussian_chain", gaussian_chain, exact("potentials"),
             exact("noise").none(true), exact("lengths"));
  module.def("gaussian_chain_vjp", gaussian_chain_vjp, exact("potentials"),
             exact("noise").none(true), exact("lengths"), exact("stats_bar"),
             exact("samples_bar").none(true));
  module.def("gaussian_filter", gaussian_filter, exact("potentials"), exact("lengths"));
}

}  // namespace svae
