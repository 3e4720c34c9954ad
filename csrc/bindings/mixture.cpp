// Bindings of the mixture of independent rows; see svae/_core.pyi.
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/packs.hpp"

namespace svae {
namespace {

using Maybe = std::optional<Array>;

struct Sizes {
  Index N, K, D, S, Q;
  Shape rows() const { return {N, K}; }
  Shape vectors() const { return {N, D}; }
  Shape matrices() const { return {N, D, D}; }
  Shape samples() const { return {N, S, D}; }
};

// What the rows share: J and h of the components, c, and where they have tails the
// offsets b, degrees of freedom and the weights of the nodes of a quadrature over them.
struct Components {
  Array potentials, constants;
  std::optional<std::array<Array, 3>> tails;
};

// What each row has: the initial potentials of z, J and h of x, noise, and whether there
// are data.
struct RowArrays {
  Array init;
  std::array<Array, 2> node;
  Maybe noise, told;
};

Sizes sizes_of(const Components& components, const RowArrays& rows) {
  if (rows.node[1].ndim() != 2)
    throw py::value_error("node_h has to have 2 axes, (N, D)");
  if (components.constants.ndim() != 1)
    throw py::value_error("constants has to have 1 axis, (K,)");
  const Sizes sizes{rows.node[1].shape(0), components.constants.shape(0),
                    rows.node[1].shape(1),
                    rows.noise && rows.noise->ndim() == 3 ? rows.noise->shape(1) : 0,
                    components.tails ? (*components.tails)[2].size() : 0};
  if (sizes.K < 1 || sizes.D < 1)
    throw py::value_error("no components, or no dimensions");
  return sizes;
}

MixtureProblem problem_of(const Components& components, const RowArrays& rows,
                          const Sizes& sizes, const std::vector<Index>& ones) {
  MixtureProblem problem{};
  problem.num_rows = sizes.N;
  problem.num_states = sizes.K;
  problem.latent_dim = sizes.D;
  problem.num_samples = sizes.S;
  problem.lengths = ones.data();
  problem.init = exact_input("init", rows.init, sizes.rows(), 1);
  problem.components =
      values("components", components.potentials, {sizes.K, sizes.D * sizes.D + sizes.D});
  problem.constants = values("constants", components.constants, {sizes.K});
  if (components.tails) {
    problem.num_nodes = sizes.Q;
    problem.offsets = values("offsets", (*components.tails)[0], {sizes.K});
    problem.dofs = values("dofs", (*components.tails)[1], {sizes.K, sizes.Q});
    problem.node_weights = values("node_weights", (*components.tails)[2], {sizes.Q});
  }
  problem.dense_nodes = rows.node[0].ndim() == 3;
  problem.node_J =
      exact_input("node_J", rows.node[0],
                  problem.dense_nodes ? sizes.matrices() : sizes.vectors(), 1);
  problem.node_h = exact_input("node_h", rows.node[1], sizes.vectors(), 1);
  if (rows.noise) problem.noise = exact_input("noise", *rows.noise, sizes.samples(), 2);
  if (rows.told) problem.told = values("told", *rows.told, {sizes.N});
  return problem;
}

Packs packs_of(const Sizes& sizes) {
  // Rounds of the alternation are not known: about ten, each with K sums of D D terms.
  const double D = double(sizes.D), K = double(sizes.K);
  return {sizes.N, kernels().lanes, 1, 20 * (K * (D * D + D + 20) + D * D * D)};
}

Array filled(const Shape& shape) { return new_array(shape, true); }

// fixed, (iterations, residual), (log_normalizer, evidence, half_log_det), second_moment,
// mean, states, potentials, samples or None
py::tuple mixture(const Array& init, const Array& components, const Array& constants,
                  const std::optional<std::array<Array, 3>>& tails,
                  const std::array<Array, 2>& node, const Maybe& noise, const Maybe& told,
                  const Maybe& starts, bool from_data, bool from_prior, double tolerance,
                  Index max_iterations) {
  const Components shared{components, constants, tails};
  const RowArrays rows{init, node, noise, told};
  const Sizes sizes = sizes_of(shared, rows);
  const std::vector<Index> ones(sizes.N, 1);
  const MixtureProblem problem = problem_of(shared, rows, sizes, ones);
  MixtureAscent how{tolerance, max_iterations, from_data, from_prior, 0, {}};
  if (starts) {
    how.num_starts = starts->ndim() == 3 ? starts->shape(1) : 0;
    how.starts = exact_input("starts", *starts, {sizes.N, how.num_starts, sizes.K}, 2);
  }

  std::array<Array, 5> numbers;
  for (Array& each : numbers) each = filled({sizes.N});
  std::array<Array, 5> results{filled(sizes.rows()), filled(sizes.matrices()),
                               filled(sizes.vectors()), filled(sizes.rows()),
                               filled(sizes.rows())};
  Array samples = filled(sizes.samples());
  std::vector<Index> improper(sizes.N, -1), impossible(sizes.N, -1);
  const MixtureResult result{
      output(results[0], 1),     numbers[0].mutable_data(), numbers[1].mutable_data(),
      numbers[2].mutable_data(), numbers[3].mutable_data(), numbers[4].mutable_data(),
      output(results[1], 1),     output(results[2], 1),     output(results[3], 1),
      output(results[4], 1),     output(samples, 2),        improper.data(),
      impossible.data()};
  run_packs(packs_of(sizes), "NotPositiveDefinite", improper,
            [&](Index first, Workspace& workspace) {
              kernels().mixture(problem, how, result, first, workspace);
            });
  raise_failure("Impossible", impossible);
  return py::make_tuple(results[0], numbers[0], numbers[1], numbers[2], numbers[3],
                        numbers[4], results[1], results[2], results[3], results[4],
                        noise ? py::object(samples) : py::none());
}

// init_bar, constants_bar and evidence_bar of every row, J_bar, h_bar, dofs_bar,
// noise_bar, iterations, residual
py::tuple mixture_vjp(const Array& init, const Array& components, const Array& constants,
                      const std::optional<std::array<Array, 3>>& tails,
                      const std::array<Array, 2>& node, const Maybe& noise,
                      const Maybe& told, const Array& fixed,
                      const std::array<Array, 6>& bars, const Maybe& samples_bar,
                      double tolerance, Index max_iterations) {
  const Components shared{components, constants, tails};
  const RowArrays rows{init, node, noise, told};
  Sizes sizes = sizes_of(shared, rows);
  const std::vector<Index> ones(sizes.N, 1);
  const MixtureProblem problem = problem_of(shared, rows, sizes, ones);
  if (noise.has_value() != samples_bar.has_value())
    throw py::value_error("samples_bar belongs to noise");

  std::array<Array, 5> results{filled(sizes.rows()), filled(sizes.rows()),
                               filled(sizes.rows()), filled(sizes.matrices()),
                               filled(sizes.vectors())};
  Array dofs_bar = filled({sizes.N, sizes.K * sizes.Q});
  Array noise_bar = filled(sizes.samples());
  Array iterations = filled({sizes.N}), residual = filled({sizes.N});
  MixtureAdjoint adjoint{};
  adjoint.tolerance = tolerance;
  adjoint.max_iterations = max_iterations;
  adjoint.fixed = exact_input("fixed", fixed, sizes.rows(), 1);
  adjoint.log_normalizer_bar = values("log_normalizer_bar", bars[0], {sizes.N});
  adjoint.evidence_bar = values("evidence_bar", bars[1], {sizes.N});
  adjoint.second_moment_bar =
      exact_input("second_moment_bar", bars[2], sizes.matrices(), 1);
  adjoint.mean_bar = exact_input("mean_bar", bars[3], sizes.vectors(), 1);
  adjoint.states_bar = exact_input("states_bar", bars[4], sizes.rows(), 1);
  adjoint.potentials_bar = exact_input("potentials_bar", bars[5], sizes.rows(), 1);
  if (samples_bar)
    adjoint.samples_bar = exact_input("samples_bar", *samples_bar, sizes.samples(), 2);
  adjoint.init_bar = output(results[0], 1);
  adjoint.constants_bar = output(results[1], 1);
  adjoint.component_evidence_bar = output(results[2], 1);
  adjoint.J_bar = output(results[3], 1);
  adjoint.h_bar = output(results[4], 1);
  adjoint.dofs_bar = output(dofs_bar, 1);
  adjoint.noise_bar = output(noise_bar, 2);
  adjoint.iterations = iterations.mutable_data();
  adjoint.residual = residual.mutable_data();
  run_packs(packs_of(sizes), "", {}, [&](Index first, Workspace& workspace) {
    kernels().mixture_vjp(problem, adjoint, first, workspace);
  });
  return py::make_tuple(results[0], results[1], results[2], results[3], results[4],
                        dofs_bar, noise_bar, iterations, residual);
}

// evidence, second_moment, mean; without statistics that of every component alone, and
// moments that are not filled
py::tuple mixture_evidence(const Array& init, const Array& components,
                           const Array& constants, const std::array<Array, 2>& node,
                           const Maybe& told, const Maybe& statistics) {
  const Components shared{components, constants, {}};
  const RowArrays rows{init, node, {}, told};
  const Sizes sizes = sizes_of(shared, rows);
  const std::vector<Index> ones(sizes.N, 1);
  const MixtureProblem problem = problem_of(shared, rows, sizes, ones);
  Array evidence = filled(sizes.rows()), second_moment = filled(sizes.matrices()),
        mean = filled(sizes.vectors());
  std::vector<Index> improper(sizes.N, -1);
  MixtureEvidence result{{},
                         output(evidence, 1),
                         output(second_moment, 1),
                         output(mean, 1),
                         improper.data()};
  if (statistics)
    result.statistics = exact_input("statistics", *statistics, sizes.rows(), 1);
  run_packs(packs_of(sizes), "NotPositiveDefinite", improper,
            [&](Index first, Workspace& workspace) {
              kernels().mixture_evidence(problem, result, first, workspace);
            });
  return py::make_tuple(evidence, second_moment, mean);
}

// statistics_bar, J_bar, h_bar
py::tuple mixture_evidence_vjp(const Array& init, const Array& components,
                               const Array& constants, const std::array<Array, 2>& node,
                               const Maybe& told, const Array& statistics,
                               const Array& evidence_bar) {
  const Components shared{components, constants, {}};
  const RowArrays rows{init, node, {}, told};
  const Sizes sizes = sizes_of(shared, rows);
  const std::vector<Index> ones(sizes.N, 1);
  const MixtureProblem problem = problem_of(shared, rows, sizes, ones);
  Array statistics_bar = filled(sizes.rows()), J_bar = filled(sizes.matrices()),
        h_bar = filled(sizes.vectors());
  const MixtureEvidenceAdjoint adjoint{
      exact_input("statistics", statistics, sizes.rows(), 1),
      exact_input("evidence_bar", evidence_bar, sizes.rows(), 1),
      output(statistics_bar, 1), output(J_bar, 1), output(h_bar, 1)};
  run_packs(packs_of(sizes), "", {}, [&](Index first, Workspace& workspace) {
    kernels().mixture_evidence_vjp(problem, adjoint, first, workspace);
  });
  return py::make_tuple(statistics_bar, J_bar, h_bar);
}

}  // namespace

void bind_mixture(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  const auto maybe = [&](const char* name) { return exact(name).none(true); };
  module.def("mixture", mixture, exact("init"), exact("components"), exact("constants"),
             maybe("tails"), exact("node"), maybe("noise"), maybe("told"),
             maybe("starts"), py::arg("from_data"), py::arg("from_prior"),
             py::arg("tolerance"), py::arg("max_iterations"));
  module.def("mixture_vjp", mixture_vjp, exact("init"), exact("components"),
             exact("constants"), maybe("tails"), exact("node"), maybe("noise"),
             maybe("told"), exact("fixed"), exact("bars"), maybe("samples_bar"),
             py::arg("tolerance"), py::arg("max_iterations"));
  module.def("mixture_evidence", mixture_evidence, exact("init"), exact("components"),
             exact("constants"), exact("node"), maybe("told"), maybe("statistics"));
  module.def("mixture_evidence_vjp", mixture_evidence_vjp, exact("init"),
             exact("components"), exact("constants"), exact("node"), maybe("told"),
             exact("statistics"), exact("evidence_bar"));
}

}  // namespace svae
