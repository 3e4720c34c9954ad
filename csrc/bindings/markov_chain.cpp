// Bindings of the Markov chain. All arrays are per sequence; see svae/_core.pyi.
#include <algorithm>
#include <array>

#include "bindings/arrays.hpp"
#include "bindings/packs.hpp"

namespace svae {
namespace {

constexpr const char* kError = "Impossible";

struct Sizes {
  Index N, T, K;
};

Sizes sizes_of(const Array& node) {
  if (node.ndim() != 3) throw py::value_error("node has to have 3 axes, (N, T, K)");
  const Sizes sizes{node.shape(0), node.shape(1), node.shape(2)};
  if (sizes.T < 1 || sizes.K < 1)
    throw py::value_error("node has an empty axis of time or of states");
  return sizes;
}

// Potentials, statistics or cotangents in the order init, pair, node.
using Arrays = std::array<Array, 3>;
using Shapes = std::array<Shape, 3>;

// The pair has as many matrices as its time axis: 1, shared by all steps, or T-1.
Shapes shapes_of(const Array& pair, const Sizes& sizes) {
  const Index steps = pair.ndim() == 4 && pair.shape(1) == 1 ? 1 : sizes.T - 1;
  return {Shape{sizes.N, sizes.K}, Shape{sizes.N, steps, sizes.K, sizes.K},
          Shape{sizes.N, sizes.T, sizes.K}};
}

MarkovArrays<const double> inputs(const Arrays& arrays, const Shapes& shapes) {
  return {input("init", arrays[0], shapes[0], 1), input("pair", arrays[1], shapes[1], 2),
          input("node", arrays[2], shapes[2], 2)};
}

MarkovArrays<double> outputs(Arrays& arrays, const Shapes& shapes, bool are_filled) {
  for (int k = 0; k < 3; ++k) arrays[k] = new_array(shapes[k], are_filled);
  return {output(arrays[0], 1), output(arrays[1], 2), output(arrays[2], 2)};
}

MarkovProblem problem_of(const Arrays& potentials, const Shapes& shapes,
                         const IntArray& lengths, const Sizes& sizes) {
  return {sizes.N, sizes.K, shapes[1][1] == 1, input_lengths(lengths, sizes.N, sizes.T),
          inputs(potentials, shapes)};
}

// Paths of -1, for the kernels to fill up to each sequence's length.
IntArray no_paths(const Shape& shape) {
  IntArray paths(shape);
  std::fill_n(paths.mutable_data(), paths.size(), -1);
  return paths;
}

Rows<Index> path_rows(IntArray& paths, Index outer) {
  return rows_of<Index>("paths", paths, reinterpret_cast<Index*>(paths.mutable_data()),
                        outer);
}

Packs packs_of(const Sizes& sizes) {
  const double K = double(sizes.K);
  return {sizes.N, kernels().lanes, sizes.T, 4 * K * K + 50 * K};
}

py::tuple markov_chain(Array init, Array pair, Array node, IntArray lengths) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  Array log_normalizer = new_array({sizes.N});
  Arrays stats;
  std::vector<Index> failed_step(sizes.N, -1);
  const MarkovResult result{log_normalizer.mutable_data(),
                            outputs(stats, shapes, are_full(lengths, sizes.T)),
                            failed_step.data()};
  run_packs(packs_of(sizes), kError, failed_step, [&](Index first, Workspace& workspace) {
    kernels().markov_chain(problem, result, first, workspace);
  });
  return py::make_tuple(log_normalizer, py::tuple(py::cast(stats)));
}

py::tuple markov_chain_vjp(Array init, Array pair, Array node, IntArray lengths,
                           const Arrays& stats_bar) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  Arrays potentials_bar;
  std::vector<Index> failed_step(sizes.N, -1);
  const MarkovAdjoint adjoint{inputs(stats_bar, shapes),
                              outputs(potentials_bar, shapes, are_full(lengths, sizes.T)),
                              failed_step.data()};
  run_packs(packs_of(sizes), kError, failed_step, [&](Index first, Workspace& workspace) {
    kernels().markov_chain_vjp(problem, adjoint, first, workspace);
  });
  return py::tuple(py::cast(potentials_bar));
}

py::tuple viterbi(Array init, Array pair, Array node, IntArray lengths) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  IntArray paths = no_paths({sizes.N, sizes.T});
  Array log_weight = new_array({sizes.N});
  std::vector<Index> failed_step(sizes.N, -1);
  const MarkovDecoding decoding{path_rows(paths, 1), log_weight.mutable_data(),
                                failed_step.data()};
  run_packs(packs_of(sizes), kError, failed_step, [&](Index first, Workspace& workspace) {
    kernels().viterbi(problem, decoding, first, workspace);
  });
  return py::make_tuple(paths, log_weight);
}

IntArray sample_markov_chain(Array init, Array pair, Array node, Array uniforms,
                             IntArray lengths) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  const Index num_samples = uniforms.ndim() == 3 ? uniforms.shape(1) : 0;
  const Shape shape{sizes.N, num_samples, sizes.T};
  IntArray paths = no_paths(shape);
  std::vector<Index> failed_step(sizes.N, -1);
  const MarkovSampling sampling{num_samples, input("uniforms", uniforms, shape, 2),
                                path_rows(paths, 2), failed_step.data()};
  run_packs(packs_of(sizes), kError, failed_step, [&](Index first, Workspace& workspace) {
    kernels().sample_markov_chain(problem, sampling, first, workspace);
  });
  return paths;
}

}  // namespace

void bind_markov_chain(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("markov_chain", markov_chain, exact("init"), exact("pair"), exact("node"),
             exact("lengths"));
  module.def("markov_chain_vjp", markov_chain_vjp, exact("init"), exact("pair"),
             exact("node"), exact("lengths"), exact("stats_bar"));
  module.def("viterbi", viterbi, exact("init"), exact("pair"), exact("node"),
             exact("lengths"));
  module.def("sample_markov_chain", sample_markov_chain, exact("init"), exact("pair"),
             exact("node"), exact("uniforms"), exact("lengths"));
}

}  // namespace svae
