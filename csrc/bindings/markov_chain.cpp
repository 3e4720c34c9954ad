// Bindings of the Markov chain. All arrays are per sequence; see svae/_core.pyi.
#include <algorithm>
#include <array>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/chains.hpp"
#include "bindings/markov_chunks.hpp"
#include "bindings/numbers.hpp"
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

// Potentials, statistics or cotangents, in the order in which Python passes them.
enum Part { kInit, kPair, kNode };
using Arrays = std::array<Array, 3>;
using Shapes = std::array<Shape, 3>;

// The pair has as many matrices as its time axis: 1, shared by all steps, or T-1.
Shapes shapes_of(const Array& pair, const Sizes& sizes) {
  const Index steps = pair.ndim() == 4 && pair.shape(1) == 1 ? 1 : sizes.T - 1;
  Shapes shapes;
  shapes[kInit] = {sizes.N, sizes.K};
  shapes[kPair] = {sizes.N, steps, sizes.K, sizes.K};
  shapes[kNode] = {sizes.N, sizes.T, sizes.K};
  return shapes;
}

MarkovArrays<const double> inputs(const Arrays& arrays, const Shapes& shapes) {
  MarkovArrays<const double> rows{};
  rows.init = input("init", arrays[kInit], shapes[kInit], 1);
  rows.pair = input("pair", arrays[kPair], shapes[kPair], 2);
  rows.node = input("node", arrays[kNode], shapes[kNode], 2);
  return rows;
}

MarkovArrays<double> outputs(Arrays& arrays, const Shapes& shapes, bool are_filled) {
  for (const Part part : {kInit, kPair, kNode})
    arrays[part] = new_array(shapes[part], are_filled);
  MarkovArrays<double> rows{};
  rows.init = output(arrays[kInit], 1);
  rows.pair = output(arrays[kPair], 2);
  rows.node = output(arrays[kNode], 2);
  return rows;
}

MarkovProblem problem_of(const Arrays& potentials, const Shapes& shapes,
                         const IntArray& lengths, const Sizes& sizes) {
  MarkovProblem problem{};
  problem.num_sequences = sizes.N;
  problem.num_states = sizes.K;
  problem.pair_is_shared = shapes[kPair][1] == 1;
  problem.lengths = input_lengths(lengths, sizes.N, sizes.T);
  problem.potentials = inputs(potentials, shapes);
  return problem;
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

py::tuple markov_chain(Array init, Array pair, Array node, IntArray lengths,
                       std::optional<double> limit) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  Array log_normalizer = new_array({sizes.N});
  Arrays stats;
  std::vector<Index> failed_step(sizes.N, -1);
  MarkovResult result{};
  result.log_normalizer = log_normalizer.mutable_data();
  result.stats = outputs(stats, shapes, are_full(lengths, sizes.T));
  result.failed_step = failed_step.data();
  const Packs packs = packs_of(problem, sizes.T);
  AllRight all_right;
  const auto look = [&](Index first, Index stop) {
    return all_right.and_also(!limit || are_numbers(problem, *limit, first, stop));
  };
  const bool are_few = sizes.N <= packs.few;  // those that may go in chunks: all at once
  std::vector<bool> is_done(sizes.N, true);
  {
    prepare_threads();
    py::gil_scoped_release released;
    if (!are_few || look(0, sizes.N)) is_done = run_markov_chunks(problem, result);
  }
  run_packs(packs, kError, failed_step, [&](Index first, Workspace& workspace) {
    if (!is_done[first] && (are_few || look(first, packs.stop(first))))
      kernels().markov_chain(problem, result, first, workspace);
  });
  all_right.raise_if_not();
  return py::make_tuple(log_normalizer, py::tuple(py::cast(stats)));
}

py::tuple markov_chain_vjp(Array init, Array pair, Array node, IntArray lengths,
                           const Arrays& stats_bar) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  Arrays potentials_bar;
  std::vector<Index> failed_step(sizes.N, -1);
  MarkovAdjoint adjoint{};
  adjoint.stats_bar = inputs(stats_bar, shapes);
  adjoint.potentials_bar = outputs(potentials_bar, shapes, are_full(lengths, sizes.T));
  adjoint.failed_step = failed_step.data();
  run_packs(packs_of(problem, sizes.T), kError, failed_step,
            [&](Index first, Workspace& workspace) {
              kernels().markov_chain_vjp(problem, adjoint, first, workspace);
            });
  return py::tuple(py::cast(potentials_bar));
}

// New arrays for what prefixes say, as a tuple of two.
py::tuple prefixes_of(const Sizes& sizes, bool are_filled, MarkovPrefixes& prefixes) {
  Array log_normalizer = new_array({sizes.N, sizes.T}, are_filled);
  Array probabilities = new_array({sizes.N, sizes.T, sizes.K}, are_filled);
  prefixes.log_normalizer = output(log_normalizer, 2);
  prefixes.probabilities = output(probabilities, 2);
  return py::make_tuple(log_normalizer, probabilities);
}

py::tuple markov_filter(Array init, Array pair, Array node, IntArray lengths) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  const bool are_filled = are_full(lengths, sizes.T);
  std::vector<Index> failed_step(sizes.N, -1);
  MarkovFiltering result{};
  const py::tuple filtered = prefixes_of(sizes, are_filled, result.filtered);
  const py::tuple predicted = prefixes_of(sizes, are_filled, result.predicted);
  result.failed_step = failed_step.data();
  run_packs(packs_of(problem, sizes.T), kError, failed_step,
            [&](Index first, Workspace& workspace) {
              kernels().markov_filter(problem, result, first, workspace);
            });
  return py::make_tuple(filtered, predicted);
}

py::tuple viterbi(Array init, Array pair, Array node, IntArray lengths) {
  const Sizes sizes = sizes_of(node);
  const Shapes shapes = shapes_of(pair, sizes);
  const MarkovProblem problem = problem_of({init, pair, node}, shapes, lengths, sizes);
  IntArray paths = no_paths({sizes.N, sizes.T});
  Array log_weight = new_array({sizes.N});
  std::vector<Index> failed_step(sizes.N, -1);
  MarkovDecoding decoding{};
  decoding.paths = path_rows(paths, 1);
  decoding.log_weight = log_weight.mutable_data();
  decoding.failed_step = failed_step.data();
  run_packs(packs_of(problem, sizes.T), kError, failed_step,
            [&](Index first, Workspace& workspace) {
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
  MarkovSampling sampling{};
  sampling.num_samples = num_samples;
  sampling.uniforms = input("uniforms", uniforms, shape, 2);
  sampling.paths = path_rows(paths, 2);
  sampling.failed_step = failed_step.data();
  run_packs(packs_of(problem, sizes.T), kError, failed_step,
            [&](Index first, Workspace& workspace) {
              kernels().sample_markov_chain(problem, sampling, first, workspace);
            });
  return paths;
}

}  // namespace

bool are_numbers(const MarkovProblem& problem, double limit, Index first, Index stop) {
  const PackNumbers numbers({limit, true}, problem.lengths, first, stop);
  const MarkovArrays<const double>& given = problem.potentials;
  const Index K = problem.num_states;
  return numbers.hold(given.init, K) &&
         numbers.hold_pairs(given.pair, K * K, problem.pair_is_shared) &&
         numbers.hold_steps(given.node, K);
}

void bind_markov_chain(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("markov_chain", markov_chain, exact("init"), exact("pair"), exact("node"),
             exact("lengths"), py::arg("limit") = py::none());
  module.def("markov_chain_vjp", markov_chain_vjp, exact("init"), exact("pair"),
             exact("node"), exact("lengths"), exact("stats_bar"));
  module.def("markov_filter", markov_filter, exact("init"), exact("pair"), exact("node"),
             exact("lengths"));
  module.def("viterbi", viterbi, exact("init"), exact("pair"), exact("node"),
             exact("lengths"));
  module.def("sample_markov_chain", sample_markov_chain, exact("init"), exact("pair"),
             exact("node"), exact("uniforms"), exact("lengths"));
}

}  // namespace svae
