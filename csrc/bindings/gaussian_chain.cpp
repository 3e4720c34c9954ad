// Bindings of the Gaussian chain. All arrays are per sequence; see svae/_core.pyi.
#include <pybind11/stl.h>

#include <array>
#include <limits>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/chains.hpp"
#include "bindings/gaussian_chunks.hpp"
#include "bindings/numbers.hpp"
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

// All packs of sequences or, of few long ones, all in chunks.
template <class Problem, class InChunks, class Task>
void run(const Problem& problem, const Sizes& sizes,
         const std::vector<Index>& failed_step, const InChunks& in_chunks,
         const Task& task) {
  if (!any_in_chunks(problem))
    return run_packs(packs_of(problem, sizes.T), kError, failed_step, task);
  prepare_threads();
  {
    py::gil_scoped_release released;
    in_chunks();
  }
  raise_failure(kError, failed_step);
}

// Results of a pack that are numbers, and stay such if those of all N are summed.
template <class Problem>
PackNumbers summable(const Problem& problem, Index first, Index stop) {
  const double largest = std::numeric_limits<double>::max();
  return {{largest / double(problem.num_sequences), false}, problem.lengths, first, stop};
}

// Whether all results of chains of either kind are; E x_i^2 bounds all moments of a step.
template <class Problem, class Statistics>
bool hold_results(const PackNumbers& numbers, const Problem& problem,
                  const ChainResult<Statistics>& result) {
  const Index D = problem.latent_dim;
  return numbers.hold({result.log_normalizer, 1, 0}, 1) &&
         numbers.hold_steps(readable(result.stats.node_J),
                            problem.dense_nodes ? D * D : D) &&
         numbers.hold_samples(readable(result.samples), problem.num_samples, D);
}

bool are_summable(const SwitchingProblem& problem, const SwitchingResult& result,
                  Index first, Index stop) {
  const PackNumbers numbers = summable(problem, first, stop);
  const Rows<double>& sums = result.stats.of_state;
  return hold_results(numbers, problem, result) &&
         numbers.hold_steps(readable(result.stats.of_pair), problem.num_states, 1) &&
         (!sums.data || numbers.hold_pairs(readable(sums), size_of_rows(problem), true));
}

bool are_summable(const GaussianProblem& problem, const GaussianFiltering& result,
                  Index first, Index stop) {
  const PackNumbers numbers = summable(problem, first, stop);
  const Index D = problem.latent_dim;
  const auto hold = [&](const GaussianPrefixes& prefixes) {
    return numbers.hold_steps(readable(prefixes.log_normalizer), 1) &&
           numbers.hold_steps(readable(prefixes.mean), D) &&
           numbers.hold_steps(readable(prefixes.cov), D * D);
  };
  return hold(result.filtered) && hold(result.predicted);
}

// Raises FloatingPointError for the first sequence whose results are not.
template <class Problem, class Result>
void raise_overflow(const Problem& problem, const Result& result) {
  for (Index n = 0; n < problem.num_sequences; ++n) {
    if (are_summable(problem, result, n, n + 1)) continue;
    const py::object errors = py::module_::import("svae.errors");
    const py::object error = errors.attr("overflow")("sequence", n);
    PyErr_SetObject(py::type::handle_of(error).ptr(), error.ptr());
    throw py::error_already_set();
  }
}

// The same as `run`, each pack's results looked at by the thread that has made them.
template <class Problem, class Result, class InChunks, class Task>
void run_to_numbers(const Problem& problem, const Sizes& sizes,
                    const std::vector<Index>& failed_step, const Result& result,
                    const InChunks& in_chunks, const Task& task) {
  const Packs packs = packs_of(problem, sizes.T);
  AllRight all_summable;
  const auto look = [&](Index first, Index stop) {
    all_summable.and_also(are_summable(problem, result, first, stop));
  };
  run(
      problem, sizes, failed_step,
      [&] {
        in_chunks();
        look(0, sizes.N);
      },
      [&](Index first, Workspace& workspace) {
        task(first, workspace);
        look(first, packs.stop(first));
      });
  if (!all_summable) raise_overflow(problem, result);
}

py::tuple gaussian_chain(const Arrays& potentials, const std::optional<Array>& noise,
                         const IntArray& lengths, std::optional<double> limit) {
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
  const Packs packs = packs_of(problem, sizes.T);
  AllRight all_right, all_summable;
  const auto compute = [&](Index first, Index stop, const auto& chain) {
    if (!all_right.and_also(!limit || are_numbers(problem, *limit, first, stop))) return;
    chain();
    all_summable.and_also(are_summable(problem, result, first, stop));
  };
  run(
      problem, sizes, failed_step,
      [&] { compute(0, sizes.N, [&] { run_in_chunks(problem, result); }); },
      [&](Index first, Workspace& workspace) {
        compute(first, packs.stop(first),
                [&] { kernels().gaussian.chain(problem, result, first, workspace); });
      });
  all_right.raise_if_not();
  if (!all_summable) raise_overflow(problem, result);
  return py::make_tuple(log_normalizer, py::cast(stats), samples);
}

// A new array for the cotangent of the noise, None without noise; reads that of samples.
template <class Adjoint>
py::object new_noise_bar(const std::optional<Array>& noise,
                         const std::optional<Array>& samples_bar, const Sizes& sizes,
                         bool are_filled, Adjoint& adjoint) {
  if (!noise) return py::none();
  const Shape shape = noise_shape(noise, sizes);
  Array noise_bar = new_array(shape, are_filled && samples_bar);
  if (samples_bar) adjoint.samples_bar = input("samples_bar", *samples_bar, shape, 2);
  adjoint.noise_bar = output(noise_bar, 2);
  return noise_bar;
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
  const py::object noise_bar =
      new_noise_bar(noise, samples_bar, sizes, are_filled, adjoint);
  run(
      problem, sizes, failed_step, [&] { run_vjp_in_chunks(problem, adjoint); },
      [&](Index first, Workspace& workspace) {
        kernels().gaussian.vjp(problem, adjoint, first, workspace);
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
  run_to_numbers(
      problem, sizes, failed_step, result, [&] { run_filter_in_chunks(problem, result); },
      [&](Index first, Workspace& workspace) {
        kernels().gaussian_filter(problem, result, first, workspace);
      });
  return py::make_tuple(filtered, predicted);
}

// Of a chain whose pairs are mixtures: init_J, init_h, node_J, node_h as above.
enum NodePart { kFirstJ, kFirstH, kEachJ, kEachH };
using NodeArrays = std::array<Array, 4>;
using NodeShapes = std::array<Shape, 4>;
constexpr Part kPartOf[] = {kInitJ, kInitH, kNodeJ, kNodeH};

NodeShapes node_shapes_of(const NodeArrays& nodes, const Sizes& sizes) {
  return {Shape{sizes.N, sizes.D, sizes.D}, Shape{sizes.N, sizes.D},
          node_J_shape(nodes[kEachJ], sizes), Shape{sizes.N, sizes.T, sizes.D}};
}

template <class T, class RowsOf>
void set_nodes(GaussianNodes<T>& nodes, const RowsOf& rows_of) {
  nodes.init_J = rows_of(kFirstJ);
  nodes.init_h = rows_of(kFirstH);
  nodes.node_J = rows_of(kEachJ);
  nodes.node_h = rows_of(kEachH);
}

void set_inputs(GaussianNodes<const double>& nodes, const NodeArrays& arrays,
                const NodeShapes& shapes) {
  set_nodes(nodes, [&](NodePart part) {
    const Part whole = kPartOf[part];
    return input(kNames[whole], arrays[part], shapes[part], kOuter[whole]);
  });
}

void set_outputs(GaussianNodes<double>& nodes, NodeArrays& arrays,
                 const NodeShapes& shapes, bool are_filled) {
  set_nodes(nodes, [&](NodePart part) {
    arrays[part] = new_array(shapes[part], are_filled);
    return output(arrays[part], kOuter[kPartOf[part]]);
  });
}

// Rows of K states, and their weights at the pairs.
struct Switch {
  Shape rows, weights;
  bool is_affine;

  Switch(const Array& states, const Sizes& sizes) {
    if (states.ndim() != 2) throw py::value_error("rows has to have 2 axes, (K, F)");
    const Index K = states.shape(0), D = sizes.D;
    is_affine = states.shape(1) != 3 * D * D;
    rows = {K, is_affine ? 3 * D * D + 2 * D : 3 * D * D};
    weights = {sizes.N, sizes.T - 1, K};
    if (K < 1) throw py::value_error("rows has an empty axis of states");
  }
  Index num_states() const { return rows[0]; }
  Shape of_state(const Sizes& sizes) const { return {sizes.N, rows[0], rows[1]}; }
};

SwitchingProblem switching_problem(const NodeArrays& nodes, const NodeShapes& shapes,
                                   const Array& rows, const Array& weights,
                                   const Switch& states,
                                   const std::optional<Array>& noise,
                                   const IntArray& lengths, const Sizes& sizes) {
  SwitchingProblem problem{};
  problem.num_sequences = sizes.N;
  problem.latent_dim = sizes.D;
  problem.num_states = states.num_states();
  problem.is_affine = states.is_affine;
  problem.dense_nodes = shapes[kEachJ].size() == 4;
  problem.lengths = input_lengths(lengths, sizes.N, sizes.T);
  set_inputs(problem.potentials, nodes, shapes);
  problem.potentials.pairs[0] = {input("weights", weights, states.weights, 2),
                                 values("rows", rows, states.rows)};
  if (noise) {
    const Shape shape = noise_shape(noise, sizes);
    problem.noise = input("noise", *noise, shape, 2);
    problem.num_samples = shape[1];
  }
  return problem;
}

// Rows of sums are per sequence: (N, K F)
py::object new_sums(const Switch& states, const Sizes& sizes, Rows<double>& rows) {
  Array sums = new_array(states.of_state(sizes));
  rows = output(sums, 1);
  return std::move(sums);
}

py::tuple switching_chain(const NodeArrays& nodes, const Array& rows,
                          const Array& weights, const std::optional<Array>& noise,
                          const IntArray& lengths, bool with_sums) {
  const Sizes sizes = sizes_of(nodes[kEachH]);
  const NodeShapes shapes = node_shapes_of(nodes, sizes);
  const Switch states(rows, sizes);
  const SwitchingProblem problem =
      switching_problem(nodes, shapes, rows, weights, states, noise, lengths, sizes);

  const bool are_filled = are_full(lengths, sizes.T);
  Array log_normalizer = new_array({sizes.N});
  Array of_pair = new_array(states.weights, are_filled);
  NodeArrays stats;
  std::vector<Index> failed_step(sizes.N, -1);
  SwitchingResult result{};
  result.log_normalizer = log_normalizer.mutable_data();
  set_outputs(result.stats, stats, shapes, are_filled);
  result.stats.by = problem.potentials.pairs[0];
  result.stats.of_pair = output(of_pair, 2);
  result.failed_step = failed_step.data();
  py::object sums = py::none(), samples = py::none();
  if (with_sums) sums = new_sums(states, sizes, result.stats.of_state);
  if (noise) {
    Array drawn = new_array(noise_shape(noise, sizes), are_filled);
    result.samples = output(drawn, 2);
    samples = drawn;
  }
  run_to_numbers(
      problem, sizes, failed_step, result, [&] { run_in_chunks(problem, result); },
      [&](Index first, Workspace& workspace) {
        kernels().switching.chain(problem, result, first, workspace);
      });
  return py::make_tuple(log_normalizer, py::cast(stats), of_pair, sums, samples);
}

py::tuple switching_chain_vjp(const NodeArrays& nodes, const Array& rows,
                              const Array& weights, const std::optional<Array>& noise,
                              const IntArray& lengths, const NodeArrays& stats_bar,
                              const Array& products_bar,
                              const std::optional<Array>& sums_bar,
                              const std::optional<Array>& statistics_weights,
                              const std::optional<Array>& samples_bar) {
  const Sizes sizes = sizes_of(nodes[kEachH]);
  const NodeShapes shapes = node_shapes_of(nodes, sizes);
  const Switch states(rows, sizes);
  SwitchingProblem problem =
      switching_problem(nodes, shapes, rows, weights, states, noise, lengths, sizes);
  if (samples_bar && !noise) throw py::value_error("samples_bar needs noise");
  if (!samples_bar) problem.num_samples = 0;
  const StateRows& given = problem.potentials.pairs[0];

  const bool are_filled = are_full(lengths, sizes.T);
  Array weights_bar = new_array(states.weights, are_filled);
  NodeArrays nodes_bar;
  std::vector<Index> failed_step(sizes.N, -1);
  SwitchingAdjoint adjoint{};
  set_inputs(adjoint.stats_bar, stats_bar, shapes);
  adjoint.stats_bar.pairs[0] = {input("products_bar", products_bar, states.weights, 2),
                                given.rows};
  set_outputs(adjoint.potentials_bar, nodes_bar, shapes, are_filled);
  adjoint.potentials_bar.by = given;
  adjoint.potentials_bar.of_pair = output(weights_bar, 2);
  adjoint.failed_step = failed_step.data();
  if (sums_bar) {
    adjoint.stats_bar.pairs[1] = {given.weights,
                                  values("sums_bar", *sums_bar, states.rows)};
    adjoint.potentials_bar.also_by = {given.weights, adjoint.stats_bar.pairs[1].rows};
  }
  const py::object noise_bar =
      new_noise_bar(noise, samples_bar, sizes, are_filled, adjoint);
  py::object rows_bar = py::none();
  if (statistics_weights) {
    rows_bar = new_sums(states, sizes, adjoint.potentials_bar.of_state);
    adjoint.potentials_bar.also_by.weights =
        input("statistics_weights", *statistics_weights, states.weights, 2);
  }
  run(
      problem, sizes, failed_step, [&] { run_vjp_in_chunks(problem, adjoint); },
      [&](Index first, Workspace& workspace) {
        kernels().switching.vjp(problem, adjoint, first, workspace);
      });
  return py::make_tuple(py::cast(nodes_bar), weights_bar, rows_bar, noise_bar);
}

}  // namespace

bool are_numbers(const GaussianProblem& problem, double limit, Index first, Index stop) {
  const PackNumbers numbers({limit, false}, problem.lengths, first, stop);
  const GaussianArrays<const double>& given = problem.potentials;
  const Index D = problem.latent_dim;
  return numbers.hold(given.init_J, D * D) && numbers.hold(given.init_h, D) &&
         numbers.hold_pairs(given.J11, D * D, problem.J11_is_shared) &&
         numbers.hold_pairs(given.J12, D * D, problem.J12_is_shared) &&
         numbers.hold_pairs(given.J22, D * D, problem.J22_is_shared) &&
         numbers.hold_steps(given.node_J, problem.dense_nodes ? D * D : D) &&
         numbers.hold_steps(given.node_h, D) &&
         numbers.hold_samples(problem.noise, problem.num_samples, D);
}

bool are_summable(const GaussianProblem& problem, const GaussianResult& result,
                  Index first, Index stop) {
  const PackNumbers numbers = summable(problem, first, stop);
  const auto sums_hold = [&](const Rows<double>& sums, bool is_shared) {
    const Index size = problem.latent_dim * problem.latent_dim;
    return !is_shared || numbers.hold_pairs(readable(sums), size, true);
  };
  return hold_results(numbers, problem, result) &&
         sums_hold(result.stats.J11, problem.J11_is_shared) &&
         sums_hold(result.stats.J12, problem.J12_is_shared) &&
         sums_hold(result.stats.J22, problem.J22_is_shared);
}

void bind_gaussian_chain(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  module.def("gaussian_chain", gaussian_chain, exact("potentials"),
             exact("noise").none(true), exact("lengths"), py::arg("limit") = py::none());
  module.def("gaussian_chain_vjp", gaussian_chain_vjp, exact("potentials"),
             exact("noise").none(true), exact("lengths"), exact("stats_bar"),
             exact("samples_bar").none(true));
  module.def("gaussian_filter", gaussian_filter, exact("potentials"), exact("lengths"));
  module.def("switching_chain", switching_chain, exact("nodes"), exact("rows"),
             exact("weights"), exact("noise").none(true), exact("lengths"),
             py::arg("with_sums"));
  module.def("switching_chain_vjp", switching_chain_vjp, exact("nodes"), exact("rows"),
             exact("weights"), exact("noise").none(true), exact("lengths"),
             exact("stats_bar"), exact("products_bar"), exact("sums_bar").none(true),
             exact("statistics_weights").none(true), exact("samples_bar").none(true));
}

}  // namespace svae
