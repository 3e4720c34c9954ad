// The chains as plain functions, for extensions that the core knows nothing of.
#include "native/chain_calls.h"

#include <exception>
#include <limits>
#include <new>

#include "bindings/arrays.hpp"
#include "bindings/chains.hpp"
#include "bindings/gaussian_chunks.hpp"
#include "bindings/markov_chunks.hpp"
#include "bindings/numbers.hpp"
#include "bindings/packs.hpp"

namespace svae {
namespace {

namespace lent = svae_chains;
using lent::Failure;

// See LARGEST and LARGEST_LOG_POTENTIAL in svae/kernels/arguments.py.
constexpr Range kNumbers{std::numeric_limits<double>::max(), false};
constexpr Range kLogPotentials{1e300, true};

Rows<const double> input(const lent::Rows& rows) {
  return {rows.data, rows.sequence_stride, rows.step_stride};
}
Rows<double> output(const lent::Rows& rows) {
  return {rows.data, rows.sequence_stride, rows.step_stride};
}

// Arrays of the steps of one input, as a failure names them.
struct Input {
  Rows<const double> rows;
  Index size;  // of a row
  enum Steps { kFirst, kAll, kPairs, kSharedPairs, kSamples } steps;
};

// The first number that is none; of samples no step is named.
Failure first_wrong(const Range& range, const std::vector<Input>& inputs,
                    const Index* lengths, Index num_sequences, Index num_samples) {
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const Input& input = inputs[k];
    for (Index n = 0; n < num_sequences; ++n) {
      const Index steps[] = {1, lengths[n], lengths[n] - 1, lengths[n] > 1 ? 1 : 0,
                             num_samples};
      const Index size =
          input.steps == Input::kSamples ? lengths[n] * input.size : input.size;
      for (Index t = 0; t < steps[input.steps]; ++t)
        if (!range.holds(input.rows.at(n, t), size))
          return {Failure::kNotANumber, n, t, Index(k)};
    }
  }
  return {Failure::kOther, 0, 0, 0};
}

Failure first_failure(Failure::Kind kind, const std::vector<Index>& failed_step) {
  for (std::size_t n = 0; n < failed_step.size(); ++n)
    if (failed_step[n] >= 0) return {kind, Index(n), failed_step[n], 0};
  return {};
}

// No exception passes from one extension into another.
template <class Function>
Failure caught(const Function& function) {
  try {
    prepare_threads();
    return function();
  } catch (const std::bad_alloc&) {
    return {Failure::kNoMemory, 0, 0, 0};
  } catch (const std::exception&) {
    return {Failure::kOther, 0, 0, 0};
  }
}

enum { kInitJ, kInitH, kJ11, kJ12, kJ22, kNodeJ, kNodeH, kNoise };

template <class T, class RowsOf>
GaussianArrays<T> parts(const lent::Rows* arrays, const RowsOf& rows_of) {
  GaussianArrays<T> all{};
  all.init_J = rows_of(arrays[kInitJ]);
  all.init_h = rows_of(arrays[kInitH]);
  all.J11 = rows_of(arrays[kJ11]);
  all.J12 = rows_of(arrays[kJ12]);
  all.J22 = rows_of(arrays[kJ22]);
  all.node_J = rows_of(arrays[kNodeJ]);
  all.node_h = rows_of(arrays[kNodeH]);
  return all;
}

GaussianProblem problem_of(const lent::Gaussian& call) {
  GaussianProblem problem{};
  problem.num_sequences = call.num_sequences;
  problem.latent_dim = call.latent_dim;
  problem.num_samples = call.num_samples;
  problem.dense_nodes = call.dense_nodes;
  problem.J11_is_shared = call.pair_is_shared[0];
  problem.J12_is_shared = call.pair_is_shared[1];
  problem.J22_is_shared = call.pair_is_shared[2];
  problem.lengths = call.lengths;
  problem.potentials = parts<const double>(call.inputs, input);
  problem.noise = input(call.inputs[kNoise]);
  return problem;
}

std::vector<Input> inputs_of(const lent::Gaussian& call) {
  const Index D = call.latent_dim;
  const auto pairs = [&](int k) {
    return call.pair_is_shared[k] ? Input::kSharedPairs : Input::kPairs;
  };
  return {{input(call.inputs[kInitJ]), D * D, Input::kFirst},
          {input(call.inputs[kInitH]), D, Input::kFirst},
          {input(call.inputs[kJ11]), D * D, pairs(0)},
          {input(call.inputs[kJ12]), D * D, pairs(1)},
          {input(call.inputs[kJ22]), D * D, pairs(2)},
          {input(call.inputs[kNodeJ]), call.dense_nodes ? D * D : D, Input::kAll},
          {input(call.inputs[kNodeH]), D, Input::kAll},
          {input(call.inputs[kNoise]), D, Input::kSamples}};
}

Failure gaussian_chain(const lent::Gaussian& call) {
  return caught([&]() -> Failure {
    const Index N = call.num_sequences;
    const GaussianProblem problem = problem_of(call);
    std::vector<Index> failed_step(N, -1);
    GaussianResult result{};
    result.log_normalizer = call.log_normalizer;
    result.stats = parts<double>(call.outputs, output);
    result.samples = output(call.outputs[kNoise]);
    result.failed_step = failed_step.data();
    AllRight all_right, all_summable;
    const auto compute = [&](Index first, Index stop, const auto& chain) {
      if (!all_right.and_also(are_numbers(problem, kNumbers.limit, first, stop))) return;
      chain();
      all_summable.and_also(are_summable(problem, result, first, stop));
    };
    if (any_in_chunks(problem)) {
      compute(0, N, [&] { run_in_chunks(problem, result); });
    } else {
      const Packs packs = packs_of(problem, call.num_timesteps);
      packs.run([&](Index first, Workspace& workspace) {
        compute(first, packs.stop(first),
                [&] { kernels().gaussian.chain(problem, result, first, workspace); });
      });
    }
    if (!all_right)
      return first_wrong(kNumbers, inputs_of(call), call.lengths, N, call.num_samples);
    const Failure failure = first_failure(Failure::kNotPositiveDefinite, failed_step);
    if (failure.kind != Failure::kNone) return failure;
    if (!all_summable)
      for (Index n = 0; n < N; ++n)
        if (!are_summable(problem, result, n, n + 1))
          return {Failure::kOverflow, n, 0, 0};
    return {};
  });
}

Failure gaussian_chain_vjp(const lent::Gaussian& call) {
  return caught([&] {
    const GaussianProblem problem = problem_of(call);
    std::vector<Index> failed_step(call.num_sequences, -1);
    GaussianAdjoint adjoint{};
    adjoint.stats_bar = parts<const double>(call.outputs_bar, input);
    adjoint.samples_bar = input(call.outputs_bar[kNoise]);
    adjoint.potentials_bar = parts<double>(call.outputs, output);
    adjoint.noise_bar = output(call.outputs[kNoise]);
    adjoint.failed_step = failed_step.data();
    if (any_in_chunks(problem))
      run_vjp_in_chunks(problem, adjoint);
    else
      packs_of(problem, call.num_timesteps).run([&](Index first, Workspace& workspace) {
        kernels().gaussian.vjp(problem, adjoint, first, workspace);
      });
    return first_failure(Failure::kNotPositiveDefinite, failed_step);
  });
}

template <class T, class RowsOf>
MarkovArrays<T> parts_of_markov(const lent::Rows* arrays, const RowsOf& rows_of) {
  return {rows_of(arrays[0]), rows_of(arrays[1]), rows_of(arrays[2])};
}

MarkovProblem problem_of(const lent::Markov& call) {
  MarkovProblem problem{};
  problem.num_sequences = call.num_sequences;
  problem.num_states = call.num_states;
  problem.pair_is_shared = call.pair_is_shared;
  problem.lengths = call.lengths;
  problem.potentials = parts_of_markov<const double>(call.inputs, input);
  return problem;
}

// Runs task(first, workspace) for packs of sequences whose potentials are numbers.
template <class Task>
Failure run(const lent::Markov& call, const MarkovProblem& problem,
            const std::vector<Index>& failed_step, const Task& task) {
  const Index K = call.num_states;
  const Packs packs = packs_of(problem, call.num_timesteps);
  AllRight all_right;
  packs.run([&](Index first, Workspace& workspace) {
    const Index stop = packs.stop(first);
    if (all_right.and_also(are_numbers(problem, kLogPotentials.limit, first, stop)))
      task(first, workspace);
  });
  if (!all_right) {
    const auto pairs = call.pair_is_shared ? Input::kSharedPairs : Input::kPairs;
    return first_wrong(kLogPotentials,
                       {{input(call.inputs[0]), K, Input::kFirst},
                        {input(call.inputs[1]), K * K, pairs},
                        {input(call.inputs[2]), K, Input::kAll}},
                       call.lengths, call.num_sequences, 0);
  }
  return first_failure(Failure::kImpossible, failed_step);
}

Failure markov_chain(const lent::Markov& call) {
  return caught([&] {
    const MarkovProblem problem = problem_of(call);
    std::vector<Index> failed_step(call.num_sequences, -1);
    MarkovResult result{};
    result.log_normalizer = call.log_normalizer;
    result.stats = parts_of_markov<double>(call.outputs, output);
    result.failed_step = failed_step.data();
    const std::vector<bool> is_done = run_markov_chunks(problem, result);
    return run(call, problem, failed_step, [&](Index first, Workspace& workspace) {
      if (!is_done[first]) kernels().markov_chain(problem, result, first, workspace);
    });
  });
}

Failure markov_chain_vjp(const lent::Markov& call) {
  return caught([&] {
    const MarkovProblem problem = problem_of(call);
    std::vector<Index> failed_step(call.num_sequences, -1);
    MarkovAdjoint adjoint{};
    adjoint.stats_bar = parts_of_markov<const double>(call.outputs_bar, input);
    adjoint.potentials_bar = parts_of_markov<double>(call.outputs, output);
    adjoint.failed_step = failed_step.data();
    packs_of(problem, call.num_timesteps).run([&](Index first, Workspace& workspace) {
      kernels().markov_chain_vjp(problem, adjoint, first, workspace);
    });
    return first_failure(Failure::kImpossible, failed_step);
  });
}

Failure viterbi(const lent::Markov& call) {
  return caught([&] {
    const MarkovProblem problem = problem_of(call);
    std::vector<Index> failed_step(call.num_sequences, -1);
    MarkovDecoding decoding{};
    decoding.paths = {call.paths, call.path_sequence_stride, 0};
    decoding.log_weight = call.log_normalizer;
    decoding.failed_step = failed_step.data();
    return run(call, problem, failed_step, [&](Index first, Workspace& workspace) {
      kernels().viterbi(problem, decoding, first, workspace);
    });
  });
}

Failure sample_markov_chain(const lent::Markov& call) {
  return caught([&] {
    const MarkovProblem problem = problem_of(call);
    std::vector<Index> failed_step(call.num_sequences, -1);
    MarkovSampling sampling{};
    sampling.num_samples = call.num_samples;
    sampling.uniforms = input(call.uniforms);
    sampling.paths = {call.paths, call.path_sequence_stride, call.path_sample_stride};
    sampling.failed_step = failed_step.data();
    return run(call, problem, failed_step, [&](Index first, Workspace& workspace) {
      kernels().sample_markov_chain(problem, sampling, first, workspace);
    });
  });
}

constexpr lent::ChainCalls kCalls{
    lent::kVersion,   gaussian_chain, gaussian_chain_vjp, markov_chain,
    markov_chain_vjp, viterbi,        sample_markov_chain};

}  // namespace

void bind_chain_calls(py::module_& module) {
  module.def(
      "chain_calls",
      [] { return py::capsule(const_cast<lent::ChainCalls*>(&kCalls), lent::kCapsule); },
      "The chains as plain functions, for extensions: svae/interop/native/chain_calls.h");
}

}  // namespace svae
