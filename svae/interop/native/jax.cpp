// The chains of svae._core as targets of XLA's foreign function interface.
//
// Every operand has leading axes before its own: those over which `jax.vmap` maps, and
// that of sequences. In an operand each of them has its full size or one; what is shared
// is read through a stride of zero and never repeated. The longest run of leading axes
// becomes the axis of sequences of a call of the core; the others are a loop of calls.
//
// The library knows nothing of Python. `svae_use` hands it the core's functions.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "chain_calls.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace svae_chains;

const ChainCalls* core = nullptr;

// What one array of a target is.
struct Kind {
  int ndim;          // of one sequence
  bool has_steps;    // its first own axis is one of steps, or of samples
  const char* name;  // of an input
};

struct Operand {
  double* data = nullptr;
  std::vector<Index> sizes;  // all axes
  Index num_leading = 0;

  Index num_own(Index first = 0) const {  // numbers of one sequence, from an own axis on
    Index count = 1;
    for (std::size_t k = num_leading + first; k < sizes.size(); ++k) count *= sizes[k];
    return count;
  }
  Index count() const {
    Index count = 1;
    for (const Index size : sizes) count *= size;
    return count;
  }
  Index own(Index axis) const { return sizes[num_leading + axis]; }
  Index step_stride() const { return own(0) > 1 ? num_own(1) : 0; }
  Index stride(Index axis) const {  // of a leading axis
    if (sizes[axis] == 1) return 0;
    Index stride = num_own();
    for (Index k = axis + 1; k < num_leading; ++k) stride *= sizes[k];
    return stride;
  }
  bool is_zero() const {
    const Index n = count();
    return std::all_of(data, data + n, [](double x) { return x == 0.0; });
  }
  void fill_zero() const { std::memset(data, 0, std::size_t(count()) * sizeof(double)); }
};

Operand operand_of(const ffi::AnyBuffer& buffer, Index num_leading) {
  Operand operand;
  operand.data = static_cast<double*>(buffer.untyped_data());
  for (const std::int64_t size : buffer.dimensions())
    operand.sizes.push_back(Index(size));
  operand.num_leading = num_leading;
  return operand;
}

// The operands of one target: first the lengths, of which `num_leading` is the rank.
class Operands {
 public:
  Operands(ffi::RemainingArgs args, ffi::RemainingRets rets) {
    const ffi::AnyBuffer lengths = *args.get<ffi::AnyBuffer>(0);
    const Index num_leading = Index(lengths.dimensions().size());
    for (std::size_t k = 0; k < args.size(); ++k)
      inputs.push_back(operand_of(*args.get<ffi::AnyBuffer>(k), num_leading));
    for (std::size_t k = 0; k < rets.size(); ++k)
      outputs.push_back(operand_of(**rets.get<ffi::AnyBuffer>(k), num_leading));
  }

  std::vector<Operand> inputs, outputs;

  // No input repeats the full size of a leading axis, but every output has it.
  const std::vector<Index> leading() const {
    const Operand& first = outputs[0];
    return {first.sizes.begin(), first.sizes.begin() + first.num_leading};
  }
};

// Neighbouring leading axes that are one for all operands.
struct Axis {
  Index size;
  std::vector<Index> strides;  // of all operands, those that come in first
};

std::vector<Axis> merged_axes(const Operands& operands) {
  std::vector<Axis> axes;
  const std::vector<Index> leading = operands.leading();
  for (std::size_t k = 0; k < leading.size(); ++k) {
    Axis axis{leading[k], {}};
    for (const Operand& x : operands.inputs) axis.strides.push_back(x.stride(Index(k)));
    for (const Operand& x : operands.outputs) axis.strides.push_back(x.stride(Index(k)));
    if (axis.size == 1) continue;
    bool continues = !axes.empty();
    for (std::size_t j = 0; continues && j < axis.strides.size(); ++j)
      continues = axes.back().strides[j] == axis.strides[j] * axis.size;
    if (continues)
      axes.back() = {axes.back().size * axis.size, axis.strides};
    else
      axes.push_back(axis);
  }
  if (axes.empty())
    axes.push_back(
        {1, std::vector<Index>(operands.inputs.size() + operands.outputs.size(), 0)});
  return axes;
}

// Where a call of the core begins, and how it goes from sequence to sequence.
struct Call {
  const Operands& operands;
  const Axis& sequences;
  std::vector<Index> offsets;
  std::vector<Index> lengths;

  double* input_at(std::size_t k) const { return operands.inputs[k].data + offsets[k]; }
  Rows input(std::size_t k, bool has_steps) const {
    return {input_at(k), sequences.strides[k],
            has_steps ? operands.inputs[k].step_stride() : 0};
  }
  std::size_t of_output(std::size_t k) const { return operands.inputs.size() + k; }
  double* output_at(std::size_t k) const {
    return operands.outputs[k].data + offsets[of_output(k)];
  }
  Index output_stride(std::size_t k) const { return sequences.strides[of_output(k)]; }
  Rows output(std::size_t k, bool has_steps) const {
    return {output_at(k), output_stride(k),
            has_steps ? operands.outputs[k].step_stride() : 0};
  }
};

std::string place(const std::vector<Index>& index) {
  std::string text;
  for (const Index i : index) text += (text.empty() ? "" : ", ") + std::to_string(i);
  return index.size() == 1 ? text : "[" + text + "]";
}

ffi::Error error_of(const Failure& failure, const std::vector<Index>& sequence,
                    const std::vector<Kind>& inputs) {
  const std::string at = "sequence " + place(sequence);
  const std::string step = ", step " + std::to_string(failure.step);
  switch (failure.kind) {
    case Failure::kNotPositiveDefinite:
      return ffi::Error::InvalidArgument(
          "NotPositiveDefinite: " + at + step +
          ": the precision of this step, given the steps before it, is not positive "
          "definite. Usual causes: a J of the wrong sign (J is minus half a precision), "
          "node potentials without bounds, or a step that left the domain of the natural "
          "parameters");
    case Failure::kImpossible:
      return ffi::Error::InvalidArgument(
          "Impossible: " + at + step +
          ": no path up to this step has positive probability. Usual causes: log "
          "potentials of -inf that forbid every state of the step, or every way to "
          "reach one");
    case Failure::kNotANumber: {
      const Kind& kind = inputs[std::size_t(failure.input)];
      const std::string name = kind.name;
      const bool is_noise = name == "noise";
      return ffi::Error::InvalidArgument(
          "ValueError: " + name + " of " + at +
          (kind.has_steps && !is_noise ? step : "") +
          " holds what is no number: NaN, an infinity other than the logarithm of "
          "zero, or a log potential above 1e300");
    }
    case Failure::kOverflow:
      return ffi::Error::InvalidArgument(
          "FloatingPointError: " + at +
          ": its log normalizer, a statistic or a sample, or the sum of such, passes "
          "1.8e308. Scale the data that the potentials come from");
    case Failure::kNoMemory:
      return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                        "svae: the system has no memory for this chain");
    default:
      return ffi::Error::Internal("svae: the core failed and does not say why");
  }
}

// The lengths of a call, and whether all are those of all steps.
bool read_lengths(const Operand& lengths, Index num_timesteps, Index& wrong) {
  const std::int64_t* values = reinterpret_cast<const std::int64_t*>(lengths.data);
  bool are_full = true;
  for (Index n = 0; n < lengths.count(); ++n) {
    if (values[n] < 1 || values[n] > num_timesteps) wrong = n;
    are_full &= values[n] == num_timesteps;
  }
  return are_full;
}

// Calls the core for all sequences; run(call) returns its failure.
template <class Run>
ffi::Error run_all(const Operands& operands, const std::vector<Kind>& inputs,
                   const Run& run) {
  std::vector<Axis> axes = merged_axes(operands);
  const std::size_t longest =
      std::max_element(axes.begin(), axes.end(),
                       [](const Axis& a, const Axis& b) { return a.size < b.size; }) -
      axes.begin();
  const Axis sequences = axes[longest];
  Index num_calls = 1;
  for (std::size_t k = 0; k < axes.size(); ++k)
    if (k != longest) num_calls *= axes[k].size;

  const std::int64_t* lengths =
      reinterpret_cast<const std::int64_t*>(operands.inputs[0].data);
  Call call{operands, sequences, std::vector<Index>(sequences.strides.size()),
            std::vector<Index>(sequences.size)};
  for (Index c = 0; c < num_calls; ++c) {
    std::vector<Index> at(axes.size(), 0);
    Index rest = c;
    for (std::size_t k = axes.size(); k-- > 0;) {
      if (k == longest) continue;
      at[k] = rest % axes[k].size;
      rest /= axes[k].size;
    }
    for (std::size_t j = 0; j < call.offsets.size(); ++j) {
      call.offsets[j] = 0;
      for (std::size_t k = 0; k < axes.size(); ++k)
        call.offsets[j] += at[k] * axes[k].strides[j];
    }
    for (Index n = 0; n < sequences.size; ++n)
      call.lengths[n] = lengths[call.offsets[0] + n * sequences.strides[0]];
    const Failure failure = run(call);
    if (failure.kind == Failure::kNone) continue;

    at[longest] = failure.sequence;
    Index flat = 0;
    for (std::size_t k = 0; k < axes.size(); ++k) flat = flat * axes[k].size + at[k];
    std::vector<Index> sequence = operands.leading();
    for (std::size_t k = sequence.size(); k-- > 0;) {
      const Index size = sequence[k];
      sequence[k] = flat % size;
      flat /= size;
    }
    return error_of(failure, sequence, inputs);
  }
  return ffi::Error::Success();
}

ffi::Error wrong_length(const Operand& lengths, Index n, Index num_timesteps) {
  const std::int64_t* values = reinterpret_cast<const std::int64_t*>(lengths.data);
  return ffi::Error::InvalidArgument("ValueError: lengths[" + std::to_string(n) +
                                     "] is " + std::to_string(values[n]) +
                                     ", wanted 1 to " + std::to_string(num_timesteps));
}

const std::vector<Kind> kGaussian = {{2, false, "init J"},  {1, false, "init h"},
                                     {3, true, "pair J11"}, {3, true, "pair J12"},
                                     {3, true, "pair J22"}, {2, true, "node J"},
                                     {2, true, "node h"},   {3, true, "noise"}};
const std::vector<Kind> kMarkov = {
    {1, false, "init"}, {3, true, "pair"}, {2, true, "node"}};

// Looks at lengths and sizes, and clears the outputs if not all of them will be written.
// Returns false if there is nothing to do, or with an error.
bool prepare(const Operands& operands, Index num_timesteps, std::size_t num_log,
             ffi::Error& error) {
  Index wrong = -1;
  const bool are_full = read_lengths(operands.inputs[0], num_timesteps, wrong);
  if (wrong >= 0) {
    error = wrong_length(operands.inputs[0], wrong, num_timesteps);
    return false;
  }
  if (!are_full || num_timesteps == 1)
    for (std::size_t k = num_log; k < operands.outputs.size(); ++k)
      operands.outputs[k].fill_zero();
  for (const Index size : operands.leading())
    if (size == 0) return false;
  return true;
}

Gaussian gaussian_call(const Call& call) {
  const std::vector<Operand>& in = call.operands.inputs;
  const Operand &node_J = in[6], &node_h = in[7], &noise = in[8];
  Gaussian of{};
  of.num_sequences = call.sequences.size;
  of.num_timesteps = node_h.own(0);
  of.latent_dim = node_h.own(1);
  of.num_samples = noise.own(0);
  of.dense_nodes = node_J.sizes.size() == node_h.sizes.size() + 1;
  for (int k = 0; k < 3; ++k) of.pair_is_shared[k] = in[3 + k].own(0) == 1;
  of.lengths = call.lengths.data();
  for (int k = 0; k < Gaussian::kNumInputs; ++k)
    of.inputs[k] = call.input(1 + k, kGaussian[k].has_steps);
  return of;
}

ffi::Error gaussian_chain(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[7].own(0), 1, error)) return error;
  return run_all(operands, kGaussian, [](const Call& call) {
    Gaussian of = gaussian_call(call);
    of.log_normalizer = call.output_at(0);
    // the core writes log normalizers one after the other
    std::vector<double> apart;
    const bool is_apart = call.output_stride(0) != 1 && call.sequences.size > 1;
    if (is_apart) apart.resize(call.sequences.size), of.log_normalizer = apart.data();
    for (int k = 0; k < Gaussian::kNumInputs; ++k)
      of.outputs[k] = call.output(1 + k, kGaussian[k].has_steps);
    const Failure failure = core->gaussian_chain(of);
    for (std::size_t n = 0; n < apart.size(); ++n)
      call.output_at(0)[Index(n) * call.output_stride(0)] = apart[n];
    return failure;
  });
}

// Clears the outputs and returns true if no cotangent is other than zero. The last of
// them are those that most often are not.
bool all_vanish(const Operands& operands, std::size_t first) {
  for (std::size_t k = operands.inputs.size(); k-- > first;)
    if (!operands.inputs[k].is_zero()) return false;
  for (const Operand& output : operands.outputs) output.fill_zero();
  return true;
}

ffi::Error gaussian_chain_vjp(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[7].own(0), 0, error)) return error;
  const std::size_t first_bar = 1 + Gaussian::kNumInputs;
  if (all_vanish(operands, first_bar)) return error;
  const bool has_samples = !operands.inputs.back().is_zero();
  if (!has_samples) operands.outputs.back().fill_zero();
  return run_all(operands, kGaussian, [=](const Call& call) {
    Gaussian of = gaussian_call(call);
    if (!has_samples) of.num_samples = 0;
    for (int k = 0; k < Gaussian::kNumInputs; ++k) {
      of.outputs_bar[k] = call.input(first_bar + k, kGaussian[k].has_steps);
      of.outputs[k] = call.output(k, kGaussian[k].has_steps);
    }
    return core->gaussian_chain_vjp(of);
  });
}

Markov markov_call(const Call& call) {
  const std::vector<Operand>& in = call.operands.inputs;
  Markov of{};
  of.num_sequences = call.sequences.size;
  of.num_timesteps = in[3].own(0);
  of.num_states = in[3].own(1);
  of.pair_is_shared = in[2].own(0) == 1;
  of.lengths = call.lengths.data();
  for (int k = 0; k < Markov::kNumInputs; ++k)
    of.inputs[k] = call.input(1 + k, kMarkov[k].has_steps);
  return of;
}

// Calls the core with room for numbers of sequences that lie one after the other, and
// puts them to where the output has them.
template <class Run>
Failure with_log_normalizer(const Call& call, Markov& of, std::size_t output,
                            const Run& run) {
  std::vector<double> values(call.sequences.size);
  of.log_normalizer = values.data();
  const Failure failure = run(of);
  for (std::size_t n = 0; n < values.size(); ++n)
    call.output_at(output)[Index(n) * call.output_stride(output)] = values[n];
  return failure;
}

ffi::Error markov_chain(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[3].own(0), 1, error)) return error;
  return run_all(operands, kMarkov, [](const Call& call) {
    Markov of = markov_call(call);
    for (int k = 0; k < Markov::kNumInputs; ++k)
      of.outputs[k] = call.output(1 + k, kMarkov[k].has_steps);
    return with_log_normalizer(call, of, 0, core->markov_chain);
  });
}

ffi::Error markov_chain_vjp(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[3].own(0), 0, error)) return error;
  const std::size_t first_bar = 1 + Markov::kNumInputs;
  if (all_vanish(operands, first_bar)) return error;
  return run_all(operands, kMarkov, [=](const Call& call) {
    Markov of = markov_call(call);
    for (int k = 0; k < Markov::kNumInputs; ++k) {
      of.outputs_bar[k] = call.input(first_bar + k, kMarkov[k].has_steps);
      of.outputs[k] = call.output(k, kMarkov[k].has_steps);
    }
    return core->markov_chain_vjp(of);
  });
}

// Paths of -1, which the core fills up to the lengths.
Index* no_paths(const Operand& paths) {
  Index* values = reinterpret_cast<Index*>(paths.data);
  std::fill_n(values, paths.count(), Index(-1));
  return values;
}

ffi::Error viterbi(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[3].own(0), 2, error)) return error;
  no_paths(operands.outputs[0]);
  return run_all(operands, kMarkov, [](const Call& call) {
    Markov of = markov_call(call);
    of.paths = reinterpret_cast<Index*>(call.output_at(0));
    of.path_sequence_stride = call.output_stride(0);
    return with_log_normalizer(call, of, 1, core->viterbi);
  });
}

ffi::Error sample_markov_chain(ffi::RemainingArgs args, ffi::RemainingRets rets) {
  const Operands operands(args, rets);
  ffi::Error error;
  if (!prepare(operands, operands.inputs[3].own(0), 1, error)) return error;
  no_paths(operands.outputs[0]);
  const Index num_timesteps = operands.inputs[3].own(0);
  Index wrong = -1;  // a sample whose uniforms are none
  error = run_all(operands, kMarkov, [&](const Call& call) -> Failure {
    Markov of = markov_call(call);
    of.num_samples = call.operands.inputs[4].own(0);
    of.uniforms = call.input(4, true);
    for (Index n = 0; n < of.num_sequences; ++n)
      for (Index s = 0; s < of.num_samples; ++s) {
        const double* row = of.uniforms.data + n * of.uniforms.sequence_stride +
                            s * of.uniforms.step_stride;
        for (Index t = 0; t < call.lengths[n]; ++t)
          if (!(row[t] >= 0.0 && row[t] < 1.0)) {
            wrong = s;
            return {Failure::kOther, n, t, 0};
          }
      }
    of.paths = reinterpret_cast<Index*>(call.output_at(0));
    of.path_sequence_stride = call.output_stride(0);
    of.path_sample_stride = num_timesteps;
    return core->sample_markov_chain(of);
  });
  if (wrong < 0) return error;
  return ffi::Error::InvalidArgument("ValueError: a number of uniforms, sample " +
                                     std::to_string(wrong) +
                                     ", is not in 0 <= uniform < 1");
}

ffi::Error no_derivative(ffi::RemainingArgs, ffi::RemainingRets) {
  return ffi::Error(ffi::ErrorCode::kUnimplemented,
                    "NotImplementedError: a chain's statistics have one derivative, its "
                    "log normalizer has two, and its samples have one in reverse mode; "
                    "svae.reference has derivatives of any order");
}

}  // namespace

#define SVAE_TARGET(name)                          \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(svae_##name, name, \
                                ffi::Ffi::Bind().RemainingArgs().RemainingRets())

#pragma GCC visibility push(default)

SVAE_TARGET(gaussian_chain);
SVAE_TARGET(gaussian_chain_vjp);
SVAE_TARGET(markov_chain);
SVAE_TARGET(markov_chain_vjp);
SVAE_TARGET(viterbi);
SVAE_TARGET(sample_markov_chain);
SVAE_TARGET(no_derivative);

// Takes the table in the core's capsule; returns whether it is of the version that this
// library knows.
extern "C" bool svae_use(const ChainCalls* calls) {
  if (!calls || calls->version != kVersion) return false;
  core = calls;
  return true;
}

#pragma GCC visibility pop
