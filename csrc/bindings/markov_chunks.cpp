// A long Markov chain in chunks of equal length, for all lanes and all threads.
//
// Two filters, there and back, find the messages at the edges of the chunks; with these
// every chunk is a chain by itself, with the log message from before it as its initial
// potential, and that from behind it added to its last node. For an edge between t and t'
//
//   init_j = log sum_i alpha_i A_ij     of the chunk behind it, where A = exp(pair),
//   end_i  = log sum_j A_ij v'_j        of the chunk before it,
//   xi_ij  prop. to  alpha_i A_ij v'_j
//
// with alpha the forward message and v' that of the chain reversed, nodes included.
#include "bindings/markov_chunks.hpp"

#include <algorithm>
#include <cmath>

#include "bindings/packs.hpp"

namespace svae {
namespace {

// What the chains require of their messages (chains/markov_chain.hpp).
constexpr double kLargestBeta = 1e100, kNegligible = 1e-120;

// Shorter chains are about as fast as a whole.
constexpr Index kShortest = Index(1) << 16;

// Rows of one sequence, or of each of its chunks.
template <class T>
Rows<T> rows(T* data, Index stride) {
  return {data, stride, stride};
}

// The chain from its last step to its first, as the only sequence of a problem.
struct Reversed {
  Index length;
  std::vector<double> init, pair;
  MarkovProblem problem;

  Reversed(const MarkovProblem& forward, Index n)
      : length(forward.lengths[n]),
        init(forward.num_states),
        pair(forward.num_states * forward.num_states),
        problem(forward) {
    const Index K = forward.num_states;
    const double* from = forward.potentials.pair.at(n, 0);
    for (Index i = 0; i < K; ++i)
      for (Index j = 0; j < K; ++j) pair[j * K + i] = from[i * K + j];
    const Rows<const double>& node = forward.potentials.node;
    problem.num_sequences = 1;
    problem.lengths = &length;
    problem.potentials.init = {init.data(), 0, 0};
    problem.potentials.pair = {pair.data(), 0, 0};
    problem.potentials.node = {node.at(n, length - 1), 0, -node.time_stride};
  }
};

// Chunks of one sequence of a problem whose steps share the pair.
class MarkovChunks {
 public:
  MarkovChunks(const MarkovProblem& problem, Index n);

  // Statistics of sequence n; says whether doubles were wide enough.
  bool run(const MarkovResult& result);

 private:
  static constexpr Index kSteps = 2048;  // of a chunk

  void find_messages(double* log_normalizer);
  void join_chunks(Index edge);

  const MarkovProblem& problem_;
  const Index n_, T_, K_, num_chunks_;
  std::vector<double> A_;               // (K, K)
  std::vector<double> forward_, back_;  // (edges, K)
  std::vector<double> init_, end_;      // (chunks, K)
  std::vector<double> edge_pairs_;      // (K, K), sum over edges
  bool is_in_range_ = true;
};

MarkovChunks::MarkovChunks(const MarkovProblem& problem, Index n)
    : problem_(problem),
      n_(n),
      T_(problem.lengths[n]),
      K_(problem.num_states),
      num_chunks_((T_ + kSteps - 1) / kSteps),
      A_(K_ * K_),
      forward_((num_chunks_ - 1) * K_),
      back_((num_chunks_ - 1) * K_),
      init_(num_chunks_ * K_),
      end_(num_chunks_ * K_),
      edge_pairs_(K_ * K_) {
  const double* pair = problem.potentials.pair.at(n, 0);
  const double top = *std::max_element(pair, pair + K_ * K_);
  for (Index e = 0; e < K_ * K_; ++e) A_[e] = std::exp(pair[e] - top);
  std::copy_n(problem.potentials.init.at(n, 0), K_, init_.begin());
}

bool MarkovChunks::run(const MarkovResult& result) {
  find_messages(result.log_normalizer + n_);
  for (Index edge = 0; edge + 1 < num_chunks_; ++edge) join_chunks(edge);
  if (!is_in_range_) return false;

  std::vector<Index> lengths(num_chunks_, kSteps), failed_step(num_chunks_, -1);
  lengths.back() = T_ - (num_chunks_ - 1) * kSteps;
  std::vector<double> log_normalizer(num_chunks_), init(num_chunks_ * K_);
  std::vector<double> pair(num_chunks_ * K_ * K_);
  const Rows<const double>& node = problem_.potentials.node;
  const Rows<double>& node_stat = result.stats.node;

  MarkovProblem chunks = problem_;
  chunks.num_sequences = num_chunks_;
  chunks.lengths = lengths.data();
  chunks.potentials.init = rows<const double>(init_.data(), K_);
  chunks.potentials.pair = {problem_.potentials.pair.at(n_, 0), 0, 0};
  chunks.potentials.node = {node.at(n_, 0), kSteps * node.time_stride, node.time_stride};
  chunks.end = rows<const double>(end_.data(), K_);
  MarkovResult stats{};
  stats.log_normalizer = log_normalizer.data();
  stats.stats.init = rows(init.data(), K_);
  stats.stats.pair = rows(pair.data(), K_ * K_);
  stats.stats.node = {node_stat.at(n_, 0), kSteps * node_stat.time_stride,
                      node_stat.time_stride};
  stats.failed_step = failed_step.data();

  const Packs packs{num_chunks_, kernels().lanes, kSteps,
                    4.0 * double(K_ * K_) + 50.0 * double(K_),
                    kernels().few_markov_chains(K_)};
  packs.run([&](Index first, Workspace& workspace) {
    kernels().markov_chain(chunks, stats, first, workspace);
  });
  for (const Index step : failed_step)
    if (step >= 0) return false;

  std::copy_n(init.begin(), K_, result.stats.init.at(n_, 0));
  double* sum = result.stats.pair.at(n_, 0);
  std::copy_n(edge_pairs_.begin(), K_ * K_, sum);
  for (Index chunk = 0; chunk < num_chunks_; ++chunk)
    for (Index e = 0; e < K_ * K_; ++e) sum[e] += pair[chunk * K_ * K_ + e];
  return true;
}

// Both filters at the same time.
void MarkovChunks::find_messages(double* log_normalizer) {
  const Reversed reversed(problem_, n_);
  double unused;
  bool is_in_range[2];
  MarkovEdges there{}, back{};
  there.distance = back.distance = kSteps;
  there.count = back.count = num_chunks_ - 1;
  there.first = kSteps - 1;
  there.messages = rows(forward_.data(), K_);
  there.log_normalizer = log_normalizer;
  there.is_in_range = &is_in_range[0];
  back.first = T_ - 1 - back.count * kSteps;
  back.messages = rows(back_.data() + (back.count - 1) * K_, -K_);
  back.log_normalizer = &unused;
  back.is_in_range = &is_in_range[1];
  run_parallel(2, 1e9, [&](Index direction, Workspace& workspace) {
    if (direction == 0)
      kernels().markov_edges(problem_, there, n_, workspace);
    else
      kernels().markov_edges(reversed.problem, back, 0, workspace);
  });
  is_in_range_ = is_in_range[0] && is_in_range[1];
}

void MarkovChunks::join_chunks(Index edge) {
  const double* alpha = forward_.data() + edge * K_;
  const double* v = back_.data() + edge * K_;
  double* init = init_.data() + (edge + 1) * K_;
  double* end = end_.data() + edge * K_;
  double total = 0.0, sum = 0.0, largest = 0.0;
  for (Index i = 0; i < K_; ++i) {
    double ahead = 0.0;
    for (Index j = 0; j < K_; ++j) {
      init[j] += alpha[i] * A_[i * K_ + j];
      ahead += A_[i * K_ + j] * v[j];
    }
    total += alpha[i] * ahead;
    sum += alpha[i];
    largest = std::max(largest, ahead);
    end[i] = std::log(ahead);
  }
  for (Index j = 0; j < K_; ++j) init[j] = std::log(init[j]);
  is_in_range_ &= total > 0.0 && largest * sum <= kLargestBeta * total;
  for (Index i = 0; i < K_; ++i)
    for (Index j = 0; j < K_; ++j) {
      const double xi = alpha[i] * A_[i * K_ + j] * v[j] / total;
      if (xi > kNegligible) edge_pairs_[i * K_ + j] += xi;
    }
}

}  // namespace

std::vector<bool> run_markov_chunks(const MarkovProblem& problem,
                                    const MarkovResult& result) {
  const Index N = problem.num_sequences;
  std::vector<bool> is_done(N, false);
  const bool are_few = N <= kernels().few_markov_chains(problem.num_states);
  for (Index n = 0; are_few && problem.pair_is_shared && n < N; ++n)
    if (problem.lengths[n] >= kShortest)
      is_done[n] = MarkovChunks(problem, n).run(result);
  return is_done;
}

}  // namespace svae
