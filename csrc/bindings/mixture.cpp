// Bindings of the mixture of independent points; see svae/_core.pyi.
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "bindings/arrays.hpp"
#include "bindings/packs.hpp"

namespace svae {
namespace {

using Maybe = std::optional<Array>;
using Tails = std::optional<std::array<Array, 3>>;  // offsets, dofs, weights of nodes
using Node = std::array<Array, 2>;                  // J, h

struct Sizes {
  Index N, K, D, S, Q;
  Shape numbers() const { return {N}; }
  Shape states() const { return {N, K}; }
  Shape vectors() const { return {N, D}; }
  Shape matrices() const { return {N, D, D}; }
  Shape samples() const { return {N, S, D}; }
};

// The sizes of a problem, and the problem itself.
struct Checked {
  Sizes sizes;
  std::vector<Index> ones;  // the lengths
  MixtureProblem problem;
};

Sizes sizes_of(const Array& constants, const Tails& tails, const Array& node_h,
               const Maybe& noise) {
  if (node_h.ndim() != 2) throw py::value_error("node_h has to have 2 axes, (N, D)");
  if (constants.ndim() != 1) throw py::value_error("constants has to have 1 axis, (K,)");
  Sizes sizes{};
  sizes.N = node_h.shape(0);
  sizes.K = constants.shape(0);
  sizes.D = node_h.shape(1);
  if (noise && noise->ndim() == 3) sizes.S = noise->shape(1);
  if (tails) sizes.Q = (*tails)[2].size();
  if (sizes.K < 1 || sizes.D < 1)
    throw py::value_error("no components, or no dimensions");
  return sizes;
}

Checked check(const Array& init,        // (N, K)
              const Array& components,  // (K, D D + D), J and h of each
              const Array& constants,   // (K,)
              const Tails& tails,       // (K,), (K, Q), (Q,)
              const Node& node,         // (N, D) or (N, D, D); (N, D)
              const Maybe& noise,       // (N, S, D)
              const Maybe& observed) {  // (N,)
  const auto& [node_J, node_h] = node;
  Checked checked{};
  const Sizes sizes = checked.sizes = sizes_of(constants, tails, node_h, noise);
  checked.ones.assign(sizes.N, 1);
  MixtureProblem& problem = checked.problem;
  problem.num_points = sizes.N;
  problem.num_states = sizes.K;
  problem.latent_dim = sizes.D;
  problem.num_samples = sizes.S;
  problem.lengths = checked.ones.data();
  problem.init = exact_input("init", init, sizes.states(), 1);
  problem.components =
      values("components", components, {sizes.K, sizes.D * sizes.D + sizes.D});
  problem.constants = values("constants", constants, {sizes.K});
  if (tails) {
    const auto& [offsets, dofs, node_weights] = *tails;
    problem.num_nodes = sizes.Q;
    problem.offsets = values("offsets", offsets, {sizes.K});
    problem.dofs = values("dofs", dofs, {sizes.K, sizes.Q});
    problem.node_weights = values("node_weights", node_weights, {sizes.Q});
  }
  problem.dense_nodes = node_J.ndim() == 3;
  problem.node_J = exact_input(
      "node_J", node_J, problem.dense_nodes ? sizes.matrices() : sizes.vectors(), 1);
  problem.node_h = exact_input("node_h", node_h, sizes.vectors(), 1);
  if (noise) problem.noise = exact_input("noise", *noise, sizes.samples(), 2);
  if (observed) problem.observed = values("observed", *observed, sizes.numbers());
  return checked;
}

Packs packs_of(const Sizes& sizes) {
  const double D = double(sizes.D), K = double(sizes.K);
  Packs packs{};
  packs.num_sequences = sizes.N;
  packs.lanes = kernels().lanes;
  packs.num_timesteps = 1;
  // Rounds of the alternation are not known: about ten, each with K sums of D D terms.
  packs.work = 20 * (K * (D * D + D + 20) + D * D * D);
  return packs;
}

Array filled(const Shape& shape) { return new_array(shape, true); }

// fixed, iterations, residual, log_normalizer, evidence, half_log_det, second_moment,
// mean, states, potentials, samples or None
py::tuple mixture(const Array& init, const Array& components, const Array& constants,
                  const Tails& tails, const Node& node, const Maybe& noise,
                  const Maybe& observed, const Maybe& starts, bool from_data,
                  bool from_prior, double tolerance, Index max_iterations) {
  const Checked checked =
      check(init, components, constants, tails, node, noise, observed);
  const Sizes& sizes = checked.sizes;
  MixtureAscent ascent{};
  ascent.tolerance = tolerance;
  ascent.max_iterations = max_iterations;
  ascent.from_data = from_data;
  ascent.from_prior = from_prior;
  if (starts) {
    ascent.num_starts = starts->ndim() == 3 ? starts->shape(1) : 0;
    ascent.starts =
        exact_input("starts", *starts, {sizes.N, ascent.num_starts, sizes.K}, 2);
  }

  Array fixed = filled(sizes.states());
  Array iterations = filled(sizes.numbers()), residual = filled(sizes.numbers());
  Array log_normalizer = filled(sizes.numbers()), evidence = filled(sizes.numbers());
  Array half_log_det = filled(sizes.numbers());
  Array second_moment = filled(sizes.matrices()), mean = filled(sizes.vectors());
  Array states = filled(sizes.states()), potentials = filled(sizes.states());
  Array samples = filled(sizes.samples());
  std::vector<Index> improper(sizes.N, -1), impossible(sizes.N, -1);
  MixtureResult result{};
  result.fixed = output(fixed, 1);
  result.iterations = iterations.mutable_data();
  result.residual = residual.mutable_data();
  result.log_normalizer = log_normalizer.mutable_data();
  result.evidence = evidence.mutable_data();
  result.half_log_det = half_log_det.mutable_data();
  result.second_moment = output(second_moment, 1);
  result.mean = output(mean, 1);
  result.states = output(states, 1);
  result.potentials = output(potentials, 1);
  result.samples = output(samples, 2);
  result.improper_step = improper.data();
  result.impossible_step = impossible.data();
  run_packs(packs_of(sizes), "NotPositiveDefinite", improper,
            [&](Index first, Workspace& workspace) {
              kernels().mixture(checked.problem, ascent, result, first, workspace);
            });
  raise_failure("Impossible", impossible);
  return py::make_tuple(fixed, iterations, residual, log_normalizer, evidence,
                        half_log_det, second_moment, mean, states, potentials,
                        noise ? py::object(samples) : py::none());
}

// init_bar, constants_bar and evidence_bar of every point, J_bar, h_bar, dofs_bar,
// noise_bar, iterations, residual
py::tuple mixture_vjp(const Array& init, const Array& components, const Array& constants,
                      const Tails& tails, const Node& node, const Maybe& noise,
                      const Maybe& observed, const Array& fixed,
                      const std::array<Array, 6>& bars, const Maybe& samples_bar,
                      double tolerance, Index max_iterations) {
  const Checked checked =
      check(init, components, constants, tails, node, noise, observed);
  const Sizes& sizes = checked.sizes;
  if (noise.has_value() != samples_bar.has_value())
    throw py::value_error("samples_bar belongs to noise");

  Array init_bar = filled(sizes.states()), constants_bar = filled(sizes.states());
  Array component_evidence_bar = filled(sizes.states());
  Array J_bar = filled(sizes.matrices()), h_bar = filled(sizes.vectors());
  Array dofs_bar = filled({sizes.N, sizes.K * sizes.Q});
  Array noise_bar = filled(sizes.samples());
  Array iterations = filled(sizes.numbers()), residual = filled(sizes.numbers());
  const auto& [log_normalizer_bar, evidence_bar, second_moment_bar, mean_bar, states_bar,
               potentials_bar] = bars;
  MixtureAdjoint adjoint{};
  adjoint.tolerance = tolerance;
  adjoint.max_iterations = max_iterations;
  adjoint.fixed = exact_input("fixed", fixed, sizes.states(), 1);
  adjoint.log_normalizer_bar =
      values("log_normalizer_bar", log_normalizer_bar, sizes.numbers());
  adjoint.evidence_bar = values("evidence_bar", evidence_bar, sizes.numbers());
  adjoint.second_moment_bar =
      exact_input("second_moment_bar", second_moment_bar, sizes.matrices(), 1);
  adjoint.mean_bar = exact_input("mean_bar", mean_bar, sizes.vectors(), 1);
  adjoint.states_bar = exact_input("states_bar", states_bar, sizes.states(), 1);
  adjoint.potentials_bar =
      exact_input("potentials_bar", potentials_bar, sizes.states(), 1);
  if (samples_bar)
    adjoint.samples_bar = exact_input("samples_bar", *samples_bar, sizes.samples(), 2);
  adjoint.init_bar = output(init_bar, 1);
  adjoint.constants_bar = output(constants_bar, 1);
  adjoint.component_evidence_bar = output(component_evidence_bar, 1);
  adjoint.J_bar = output(J_bar, 1);
  adjoint.h_bar = output(h_bar, 1);
  adjoint.dofs_bar = output(dofs_bar, 1);
  adjoint.noise_bar = output(noise_bar, 2);
  adjoint.iterations = iterations.mutable_data();
  adjoint.residual = residual.mutable_data();
  run_packs(packs_of(sizes), "", {}, [&](Index first, Workspace& workspace) {
    kernels().mixture_vjp(checked.problem, adjoint, first, workspace);
  });
  return py::make_tuple(init_bar, constants_bar, component_evidence_bar, J_bar, h_bar,
                        dofs_bar, noise_bar, iterations, residual);
}

// evidence, second_moment, mean; without statistics that of every component alone, and
// moments that are not filled
py::tuple mixture_evidence(const Array& init, const Array& components,
                           const Array& constants, const Node& node,
                           const Maybe& observed, const Maybe& statistics) {
  const Checked checked = check(init, components, constants, {}, node, {}, observed);
  const Sizes& sizes = checked.sizes;
  Array evidence = filled(sizes.states());
  Array second_moment = filled(sizes.matrices()), mean = filled(sizes.vectors());
  std::vector<Index> improper(sizes.N, -1);
  MixtureEvidence result{};
  if (statistics)
    result.statistics = exact_input("statistics", *statistics, sizes.states(), 1);
  result.evidence = output(evidence, 1);
  result.second_moment = output(second_moment, 1);
  result.mean = output(mean, 1);
  result.improper_step = improper.data();
  run_packs(packs_of(sizes), "NotPositiveDefinite", improper,
            [&](Index first, Workspace& workspace) {
              kernels().mixture_evidence(checked.problem, result, first, workspace);
            });
  return py::make_tuple(evidence, second_moment, mean);
}

// statistics_bar, J_bar, h_bar
py::tuple mixture_evidence_vjp(const Array& init, const Array& components,
                               const Array& constants, const Node& node,
                               const Maybe& observed, const Array& statistics,
                               const Array& evidence_bar) {
  const Checked checked = check(init, components, constants, {}, node, {}, observed);
  const Sizes& sizes = checked.sizes;
  Array statistics_bar = filled(sizes.states());
  Array J_bar = filled(sizes.matrices()), h_bar = filled(sizes.vectors());
  MixtureEvidenceAdjoint adjoint{};
  adjoint.statistics = exact_input("statistics", statistics, sizes.states(), 1);
  adjoint.evidence_bar = exact_input("evidence_bar", evidence_bar, sizes.states(), 1);
  adjoint.statistics_bar = output(statistics_bar, 1);
  adjoint.J_bar = output(J_bar, 1);
  adjoint.h_bar = output(h_bar, 1);
  run_packs(packs_of(sizes), "", {}, [&](Index first, Workspace& workspace) {
    kernels().mixture_evidence_vjp(checked.problem, adjoint, first, workspace);
  });
  return py::make_tuple(statistics_bar, J_bar, h_bar);
}

}  // namespace

void bind_mixture(py::module_& module) {
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  const auto maybe = [&](const char* name) { return exact(name).none(true); };
  module.def("mixture", mixture, exact("init"), exact("components"), exact("constants"),
             maybe("tails"), exact("node"), maybe("noise"), maybe("observed"),
             maybe("starts"), py::arg("from_data"), py::arg("from_prior"),
             py::arg("tolerance"), py::arg("max_iterations"));
  module.def("mixture_vjp", mixture_vjp, exact("init"), exact("components"),
             exact("constants"), maybe("tails"), exact("node"), maybe("noise"),
             maybe("observed"), exact("fixed"), exact("bars"), maybe("samples_bar"),
             py::arg("tolerance"), py::arg("max_iterations"));
  module.def("mixture_evidence", mixture_evidence, exact("init"), exact("components"),
             exact("constants"), exact("node"), maybe("observed"), maybe("statistics"));
  module.def("mixture_evidence_vjp", mixture_evidence_vjp, exact("init"),
             exact("components"), exact("constants"), exact("node"), maybe("observed"),
             exact("statistics"), exact("evidence_bar"));
}

}  // namespace svae
