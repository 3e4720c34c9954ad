#include "bindings/gaussian_chunks.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "threads/pool.hpp"

namespace svae {
namespace {

// Measured with AVX-512: with so many steps the chain of edges and the second pass cost
// what full lanes gain. A sequence among three wastes less.
constexpr Index kMostSequences = 3;
Index fewest_steps(Index latent_dim) { return latent_dim < 9 ? 64 : 32; }
// Shorter chunks have more edges between them, longer ones leave the caches; and what the
// adjoint keeps of large matrices takes memory.
constexpr Index kLongestChunk = 128, kLongestOfLarge = 64, kLargeDim = 48;
constexpr Index kFewestChunks = 8;  // fill all lanes of any instruction set
constexpr Index kStepsOfBlock = 8;  // rows that are read at a time, if they are all there

bool goes_in_chunks(Index num_sequences, Index latent_dim, Index length) {
  return num_sequences <= kMostSequences &&
         length >= num_sequences * fewest_steps(latent_dim) &&
         kernels().gaussian_lanes(latent_dim) > 1;
}

const auto& kernels_of(const GaussianProblem&) { return kernels().gaussian; }
const auto& kernels_of(const SwitchingProblem&) { return kernels().switching; }

Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Chunks of equal length, but for the last.
struct Cut {
  Index num_chunks = 0, length = 0;

  Cut() = default;
  Cut(Index num_timesteps, Index dim) {
    const Index longest = dim < kLargeDim ? kLongestChunk : kLongestOfLarge;
    const Index packs = ceil_div(num_timesteps, longest * kFewestChunks);
    length = ceil_div(num_timesteps, packs * kFewestChunks);
    num_chunks = ceil_div(num_timesteps, length);
    const Index in_blocks = ceil_div(length, kStepsOfBlock) * kStepsOfBlock;
    if (ceil_div(num_timesteps, in_blocks) == num_chunks) length = in_blocks;
  }
};

// Zeros for rows (N, C, size).
class RowMemory {
 public:
  RowMemory() = default;
  RowMemory(Index num_sequences, Index num_chunks, Index size)
      : size_(size), sequence_(num_chunks * size) {
    const std::size_t bytes = num_sequences * sequence_ * sizeof(double);
    data_ = {static_cast<double*>(take_recycled(bytes)),
             [bytes](double* data) { give_back(data, bytes); }};
    std::memset(data_.get(), 0, bytes);
  }

  Rows<double> rows() const { return {data_.get(), sequence_, size_}; }
  // (C, size) of one sequence, its chunks as sequences
  Rows<double> of(Index n) const { return {data_.get() + n * sequence_, size_, 0}; }

 private:
  Index size_ = 0, sequence_ = 0;
  std::shared_ptr<double> data_;
};

void add(const double* term, double* to, Index size) {
  for (Index i = 0; i < size; ++i) to[i] += term[i];
}

bool any_failed(const std::vector<Index>& failed_step) {
  return std::any_of(failed_step.begin(), failed_step.end(),
                     [](Index step) { return step >= 0; });
}

// From thread to thread.
class ThreadRelay final : public Relay {
 public:
  explicit ThreadRelay(Index num_chunks) : reached_(num_chunks) {}

  void wait_for(Index chunk) override {
    std::unique_lock<std::mutex> lock(mutex_);
    handed_.wait(lock, [&] { return reached_ <= chunk; });
  }
  void hand_on(Index chunk) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      reached_ = std::min(reached_, chunk);
    }
    handed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable handed_;
  Index reached_;
};

// One sequence, its chunks as sequences.
template <class Problem>
struct Chunks {
  Index n;  // of the problem
  Cut cut;
  std::vector<Index> lengths;  // (C,), the next edge counted
  std::vector<Index> failed_step;
  bool has_failed = false;
  GaussianEdges edges{};
  Problem problem{};

  void note_failures() { has_failed = has_failed || any_failed(failed_step); }

  // Rows of the chunks in rows (N, T, ..).
  template <class T>
  Rows<T> of(const Rows<T>& rows) const {
    return {rows.at(n, 0), cut.length * rows.time_stride, rows.time_stride};
  }
  // In rows (N, S, T, D), whose steps follow one on the other.
  template <class T>
  Rows<T> of_samples(const Rows<T>& rows) const {
    return {rows.at(n, 0), cut.length * problem.latent_dim, rows.time_stride};
  }
  template <class T>
  GaussianArrays<T> of(const GaussianArrays<T>& arrays) const {
    GaussianArrays<T> chunks{};
    set_nodes(arrays, chunks);
    chunks.J11 = of(arrays.J11);
    chunks.J12 = of(arrays.J12);
    chunks.J22 = of(arrays.J22);
    return chunks;
  }
  StateRows of(const StateRows& states) const {
    return {of(states.weights), states.rows};
  }
  SwitchingTerms of(const SwitchingTerms& terms) const {
    SwitchingTerms chunks{};
    set_nodes(terms, chunks);
    chunks.pairs[0] = of(terms.pairs[0]);
    chunks.pairs[1] = of(terms.pairs[1]);
    return chunks;
  }
  SwitchingOutputs of(const SwitchingOutputs& outputs) const {
    SwitchingOutputs chunks{};
    set_nodes(outputs, chunks);
    chunks.by = of(outputs.by);
    chunks.also_by = of(outputs.also_by);
    chunks.of_pair = of(outputs.of_pair);
    return chunks;
  }

 private:
  // A chunk has initial potentials of its own.
  template <class T>
  void set_nodes(const GaussianNodes<T>& nodes, GaussianNodes<T>& chunks) const {
    chunks.node_J = of(nodes.node_J);
    chunks.node_h = of(nodes.node_h);
  }
};

// The output of the chunks of a sequence. What all of them add to, or only the first has,
// is a row of each until all are done.
template <class Outputs>
class ChunkOutput {
 public:
  template <class Problem>
  ChunkOutput(const Problem& problem, const Chunks<Problem>& chunks, const Outputs& whole)
      : rows(chunks.of(whole)), n_(chunks.n), num_chunks_(chunks.cut.num_chunks) {
    const Index D = problem.latent_dim;
    own_row(rows.init_J, whole.init_J, D * D, false);
    own_row(rows.init_h, whole.init_h, D, false);
    take_sums(problem, whole);
  }

  Outputs rows;

  void finish() const {
    for (const OwnRow& own : own_rows_) {
      std::copy_n(own.memory.rows().data, own.size, own.whole);
      for (Index c = 1; own.is_summed && c < num_chunks_; ++c)
        add(own.memory.of(0).at(c, 0), own.whole, own.size);
    }
  }

 private:
  struct OwnRow {
    RowMemory memory;  // (1, C, size)
    double* whole;     // (size,)
    Index size;
    bool is_summed;
  };

  void own_row(Rows<double>& of_chunks, const Rows<double>& whole, Index size,
               bool is_summed) {
    own_rows_.push_back(
        {RowMemory(1, num_chunks_, size), whole.at(n_, 0), size, is_summed});
    of_chunks = own_rows_.back().memory.of(0);
  }

  void take_sums(const GaussianProblem& problem, const GaussianArrays<double>& whole) {
    const Index size = problem.latent_dim * problem.latent_dim;
    if (problem.J11_is_shared) own_row(rows.J11, whole.J11, size, true);
    if (problem.J12_is_shared) own_row(rows.J12, whole.J12, size, true);
    if (problem.J22_is_shared) own_row(rows.J22, whole.J22, size, true);
  }
  void take_sums(const SwitchingProblem& problem, const SwitchingOutputs& whole) {
    if (whole.of_state.data)
      own_row(rows.of_state, whole.of_state, size_of_rows(problem), true);
  }

  Index n_, num_chunks_;
  std::vector<OwnRow> own_rows_;
};

// The sequences of a problem that go in chunks, and the chain of their edges.
template <class Problem>
class ChunkedProblem {
 public:
  explicit ChunkedProblem(const Problem& problem)
      : problem_(problem), lanes_(kernels().gaussian_lanes(problem.latent_dim)) {
    for (Index n = 0; n < problem.num_sequences; ++n) {
      const Index length = problem.lengths[n];
      if (!goes_in_chunks(problem.num_sequences, problem.latent_dim, length)) continue;
      Chunks<Problem> chunks;
      chunks.n = n;
      chunks.cut = Cut(length, problem.latent_dim);
      most_ = std::max(most_, chunks.cut.num_chunks);
      all.push_back(chunks);
    }
    const Index D = problem.latent_dim;
    for (RowMemory* matrices : {&node_J_, &J12_, &J22_, &prior_J_, &cov_J_, &G_})
      *matrices = take(D * D);
    for (RowMemory* vectors : {&node_h_, &next_h_, &prior_h_, &mean_, &mean_at_zero_})
      *vectors = take(D);
    for (std::size_t k = 0; k < all.size(); ++k) set_up(Index(k), all[k]);
  }

  std::vector<Chunks<Problem>> all;

  // Zeros, a row for every edge, and one more.
  RowMemory take(Index size) const {
    return RowMemory(Index(all.size()), most_ + 1, size);
  }

  // Finds how the chunks are entered.
  void solve_edges() {
    std::vector<GaussianElimination> eliminations;
    for (std::size_t k = 0; k < all.size(); ++k)
      eliminations.push_back({node_J_.of(k), node_h_.of(k), J12_.of(k), J22_.of(k),
                              next_h_.of(k), all[k].failed_step.data()});
    for_packs([&](Index k, Index first, Workspace& workspace) {
      kernels_of(problem_).elimination(all[k].problem, eliminations[k], first, workspace);
    });
    for (Chunks<Problem>& chunks : all) chunks.note_failures();
    solve_chain_of_edges();
  }

  // task(k, first, workspace) for all packs of all[k], the last of a sequence first: they
  // may wait for those after them in time, which have begun.
  template <class Task>
  void for_packs(const Task& task) const {
    std::vector<std::pair<Index, Index>> packs;
    Index longest = 0;
    for (std::size_t k = 0; k < all.size(); ++k) {
      for (Index pack = ceil_div(all[k].cut.num_chunks, lanes_); pack-- > 0;)
        packs.emplace_back(Index(k), pack * lanes_);
      longest = std::max(longest, all[k].cut.length);
    }
    const double work = work_of_step(problem_) * double(longest);
    run_parallel(Index(packs.size()), work, [&](Index i, Workspace& workspace) {
      task(packs[i].first, packs[i].second, workspace);
    });
  }

  // task(alone, n, workspace) for the sequences too short for chunks, and those that
  // failed there: so the first step that fails is the same whatever the way. `alone` has
  // no sequences after n.
  template <class Task>
  void for_others(const Task& task) const {
    std::vector<Index> others;
    for (Index n = 0; n < problem_.num_sequences; ++n)
      if (std::none_of(all.begin(), all.end(), [n](const Chunks<Problem>& chunks) {
            return chunks.n == n && !chunks.has_failed;
          }))
        others.push_back(n);
    run_parallel(Index(others.size()), 0.0, [&](Index i, Workspace& workspace) {
      Problem alone = problem_;
      alone.num_sequences = others[i] + 1;
      task(alone, others[i], workspace);
    });
  }

 private:
  void set_up(Index k, Chunks<Problem>& chunks) {
    const Index C = chunks.cut.num_chunks, length = chunks.cut.length;
    chunks.lengths.assign(C, length + 1);
    chunks.lengths[C - 1] = problem_.lengths[chunks.n] - (C - 1) * length;
    chunks.failed_step.assign(C, -1);
    chunks.edges.prior_J = prior_J_.of(k);
    chunks.edges.prior_h = prior_h_.of(k);
    chunks.edges.cov_J = cov_J_.of(k);
    chunks.edges.mean = mean_.of(k);
    chunks.edges.G = G_.of(k);
    chunks.edges.mean_at_zero = mean_at_zero_.of(k);
    chunks.problem = problem_;
    chunks.problem.num_sequences = C;
    chunks.problem.lengths = chunks.lengths.data();
    chunks.problem.potentials = chunks.of(problem_.potentials);
    chunks.problem.potentials.init_J = readable(chunks.edges.prior_J);
    chunks.problem.potentials.init_h = readable(chunks.edges.prior_h);
    chunks.problem.noise = chunks.of_samples(problem_.noise);
    chunks.problem.edges = &chunks.edges;
  }

  void solve_chain_of_edges() {
    const Index N = Index(all.size()), D = problem_.latent_dim;
    const RowMemory init_J(N, 1, D * D), init_h(N, 1, D), zero(1, 1, D * D);
    std::vector<Index> lengths, failed_step(N, -1);
    for (Index k = 0; k < N; ++k) {
      const auto& given = problem_.potentials;
      lengths.push_back(all[k].cut.num_chunks);
      std::copy_n(given.init_J.at(all[k].n, 0), D * D, init_J.rows().at(k, 0));
      std::copy_n(given.init_h.at(all[k].n, 0), D, init_h.rows().at(k, 0));
      add_next_h(k, node_h_);
    }
    GaussianProblem chain{};
    chain.num_sequences = N;
    chain.latent_dim = D;
    chain.dense_nodes = true;
    chain.J11_is_shared = true;
    chain.lengths = lengths.data();
    chain.potentials.init_J = readable(init_J.rows());
    chain.potentials.init_h = readable(init_h.rows());
    chain.potentials.J11 = {zero.rows().data, 0, 0};
    chain.potentials.J12 = readable(J12_.rows());
    chain.potentials.J22 = readable(J22_.rows());
    chain.potentials.node_J = readable(node_J_.rows());
    chain.potentials.node_h = readable(node_h_.rows());
    GaussianEdges edges{};
    edges.prior_J = prior_J_.rows();
    edges.prior_h = prior_h_.rows();
    edges.cov_J = cov_J_.rows();
    edges.mean = mean_.rows();
    edges.G = G_.rows();
    edges.mean_at_zero = mean_at_zero_.rows();
    run_parallel(ceil_div(N, lanes_), 0.0, [&](Index pack, Workspace& workspace) {
      kernels().gaussian_edges(chain, edges, failed_step.data(), pack * lanes_,
                               workspace);
    });
    for (Index k = 0; k < N; ++k) {
      std::copy_n(init_J.rows().at(k, 0), D * D, prior_J_.rows().at(k, 0));
      std::copy_n(init_h.rows().at(k, 0), D, prior_h_.rows().at(k, 0));
      add_next_h(k, prior_h_);
      all[k].has_failed = all[k].has_failed || failed_step[k] >= 0;
    }
  }

  // What the steps of a chunk say of the next edge, for which chains have no potential.
  void add_next_h(Index k, const RowMemory& h) const {
    for (Index c = 0; c + 1 < all[k].cut.num_chunks; ++c)
      add(next_h_.rows().at(k, c), h.rows().at(k, c + 1), problem_.latent_dim);
  }

  const Problem& problem_;
  Index lanes_, most_ = 0;
  RowMemory node_J_, node_h_, J12_, J22_, next_h_;
  RowMemory prior_J_, prior_h_, cov_J_, mean_, G_, mean_at_zero_;
};

// Of one sequence. If a pack fails, none waits for it any longer.
class Relays {
 public:
  Relay* add(Index num_chunks) {
    all_.push_back(std::make_unique<ThreadRelay>(num_chunks));
    return all_.back().get();
  }

  template <class Task>
  void run(const Task& task) const {
    try {
      task();
    } catch (...) {
      for (const auto& relay : all_) relay->hand_on(0);
      throw;
    }
  }

 private:
  std::vector<std::unique_ptr<ThreadRelay>> all_;
};

// x += G'y
void add_transposed(const double* G,  // (D, D)
                    const double* y, double* x, Index dim) {
  for (Index j = 0; j < dim; ++j)
    for (Index i = 0; i < dim; ++i) x[i] += G[j * dim + i] * y[j];
}

// What enters the chunks of an adjoint from below (gaussian_tangents in
// chains/gaussian_chunks.hpp): with the tangents of A_p, -2 J, and h_p,
//
//   J' = next_J + G'J G,  h' = next_h + G'(h + 2 J mf),  G'lam' = next_lam + G'(G'lam)
//
// What enters the first chunk has gone through it.
template <class Problem>
void carry_up(const Chunks<Problem>& chunks, const GaussianEdgeAdjoint& edges,
              const Rows<double>& J, const Rows<double>& h, const Rows<double>& lam) {
  const Index D = chunks.problem.latent_dim, S = chunks.problem.num_samples;
  std::vector<double> product(D * D), vector(D);
  for (Index c = 0; c + 1 < chunks.cut.num_chunks; ++c) {
    std::copy_n(edges.next_J.at(c, 0), D * D, J.at(c + 1, 0));
    std::copy_n(edges.next_h.at(c, 0), D, h.at(c + 1, 0));
    std::copy_n(edges.next_lam.at(c, 0), S * D, lam.at(c + 1, 0));
    if (c == 0) continue;
    const double *G = chunks.edges.G.at(c, 0), *mf = chunks.edges.mean_at_zero.at(c, 0);
    std::copy_n(h.at(c, 0), D, vector.data());
    for (Index i = 0; i < D; ++i) {
      double* row = &product[i * D];  // of J G
      std::fill_n(row, D, 0.0);
      for (Index k = 0; k < D; ++k) {
        const double entry = J.at(c, 0)[i * D + k];
        vector[i] += 2.0 * entry * mf[k];
        for (Index j = 0; j < D; ++j) row[j] += entry * G[k * D + j];
      }
    }
    for (Index k = 0; k < D; ++k)
      for (Index i = 0; i < D; ++i)
        for (Index j = 0; j < D; ++j)
          J.at(c + 1, 0)[i * D + j] += G[k * D + i] * product[k * D + j];
    add_transposed(G, vector.data(), h.at(c + 1, 0), D);
    for (Index s = 0; s < S; ++s)
      add_transposed(G, lam.at(c, 0) + s * D, lam.at(c + 1, 0) + s * D, D);
  }
}

template <class Problem, class Statistics>
void run_chain(const Problem& problem, const ChainResult<Statistics>& result) {
  ChunkedProblem<Problem> chunked(problem);
  chunked.solve_edges();

  const RowMemory samples = chunked.take(problem.num_samples * problem.latent_dim);
  std::vector<std::vector<double>> log_normalizers;
  std::vector<ChainResult<Statistics>> results;
  std::vector<ChunkOutput<Statistics>> stats;
  std::vector<Relays> relays(chunked.all.size());
  for (Chunks<Problem>& chunks : chunked.all) {
    const std::size_t k = results.size();
    chunks.edges.relay = relays[k].add(chunks.cut.num_chunks);
    chunks.edges.samples = samples.of(Index(k));
    log_normalizers.emplace_back(chunks.cut.num_chunks);
    stats.emplace_back(problem, chunks, result.stats);
    results.push_back({log_normalizers[k].data(), stats[k].rows,
                       chunks.of_samples(result.samples), chunks.failed_step.data()});
  }
  chunked.for_packs([&](Index k, Index first, Workspace& workspace) {
    relays[k].run([&] {
      kernels_of(problem).chain(chunked.all[k].problem, results[k], first, workspace);
    });
  });
  for (std::size_t k = 0; k < results.size(); ++k) {
    double& total = result.log_normalizer[chunked.all[k].n] = 0.0;
    for (const double each : log_normalizers[k]) total += each;
    stats[k].finish();
    chunked.all[k].note_failures();
  }
  chunked.for_others([&](const Problem& alone, Index n, Workspace& workspace) {
    kernels_of(problem).chain(alone, result, n, workspace);
  });
}

template <class Problem, class StatisticsBar, class PotentialsBar>
void run_vjp(const Problem& problem,
             const ChainAdjoint<StatisticsBar, PotentialsBar>& adjoint) {
  ChunkedProblem<Problem> chunked(problem);
  chunked.solve_edges();

  const Index D = problem.latent_dim, S = problem.num_samples;
  const RowMemory J = chunked.take(D * D), h = chunked.take(D), lam = chunked.take(S * D);
  const RowMemory next_J = chunked.take(D * D), next_h = chunked.take(D);
  const RowMemory next_lam = chunked.take(S * D), samples = chunked.take(S * D);
  const RowMemory Q = chunked.take(D * D), dm = chunked.take(D), hb = chunked.take(D);
  std::vector<GaussianEdgeAdjoint> edges(chunked.all.size());
  std::vector<ChainAdjoint<StatisticsBar, PotentialsBar>> adjoints;
  std::vector<ChunkOutput<PotentialsBar>> bars;
  std::vector<Relays> relays(chunked.all.size());
  for (Chunks<Problem>& chunks : chunked.all) {
    const Index k = Index(adjoints.size());
    chunks.edges.relay = relays[k].add(chunks.cut.num_chunks);
    chunks.edges.samples = samples.of(k);
    edges[k] = {readable(lam.of(k)),
                next_J.of(k),
                next_h.of(k),
                next_lam.of(k),
                Q.of(k),
                dm.of(k),
                hb.of(k),
                relays[k].add(chunks.cut.num_chunks)};
    bars.emplace_back(problem, chunks, adjoint.potentials_bar);
    StatisticsBar stats_bar = chunks.of(adjoint.stats_bar);
    std::copy_n(adjoint.stats_bar.init_J.at(chunks.n, 0), D * D, J.rows().at(k, 0));
    std::copy_n(adjoint.stats_bar.init_h.at(chunks.n, 0), D, h.rows().at(k, 0));
    stats_bar.init_J = readable(J.of(k));
    stats_bar.init_h = readable(h.of(k));
    adjoints.push_back({stats_bar, chunks.of_samples(adjoint.samples_bar), bars[k].rows,
                        chunks.of_samples(adjoint.noise_bar), chunks.failed_step.data(),
                        &edges[k]});
  }
  chunked.for_packs([&](Index k, Index first, Workspace& workspace) {
    kernels_of(problem).tangents(chunked.all[k].problem, adjoints[k], first, workspace);
  });
  for (std::size_t k = 0; k < adjoints.size(); ++k)
    carry_up(chunked.all[k], edges[k], J.of(Index(k)), h.of(Index(k)), lam.of(Index(k)));
  chunked.for_packs([&](Index k, Index first, Workspace& workspace) {
    relays[k].run([&] {
      kernels_of(problem).vjp(chunked.all[k].problem, adjoints[k], first, workspace);
    });
  });
  for (std::size_t k = 0; k < adjoints.size(); ++k) {
    bars[k].finish();
    chunked.all[k].note_failures();
  }
  chunked.for_others([&](const Problem& alone, Index n, Workspace& workspace) {
    kernels_of(problem).vjp(alone, adjoint, n, workspace);
  });
}

}  // namespace

Index size_of_rows(const SwitchingProblem& problem) {
  const Index D = problem.latent_dim;
  return problem.num_states * (3 * D * D + (problem.is_affine ? 2 * D : 0));
}

double work_of_step(const GaussianProblem& problem) {
  const double D = double(problem.latent_dim);
  return 7 * D * D * D + 15 * D * D + 50;
}

double work_of_step(const SwitchingProblem& problem) {
  const double D = double(problem.latent_dim);
  return 7 * D * D * D + 15 * D * D + 50 + 4 * double(size_of_rows(problem));
}

bool any_in_chunks(Index num_sequences, Index latent_dim, const Index* lengths) {
  return std::any_of(lengths, lengths + num_sequences, [=](Index length) {
    return goes_in_chunks(num_sequences, latent_dim, length);
  });
}

void run_in_chunks(const GaussianProblem& problem, const GaussianResult& result) {
  run_chain(problem, result);
}

void run_in_chunks(const SwitchingProblem& problem, const SwitchingResult& result) {
  run_chain(problem, result);
}

void run_vjp_in_chunks(const GaussianProblem& problem, const GaussianAdjoint& adjoint) {
  run_vjp(problem, adjoint);
}

void run_vjp_in_chunks(const SwitchingProblem& problem, const SwitchingAdjoint& adjoint) {
  run_vjp(problem, adjoint);
}

void run_filter_in_chunks(const GaussianProblem& problem,
                          const GaussianFiltering& filtering) {
  ChunkedProblem<GaussianProblem> chunked(problem);
  chunked.solve_edges();

  std::vector<std::vector<double>> of_chunks;
  std::vector<GaussianFiltering> parts;
  for (Chunks<GaussianProblem>& chunks : chunked.all) {
    const auto of = [&chunks](const GaussianPrefixes& prefixes) {
      return GaussianPrefixes{chunks.of(prefixes.log_normalizer),
                              chunks.of(prefixes.mean), chunks.of(prefixes.cov)};
    };
    of_chunks.emplace_back(chunks.cut.num_chunks);
    parts.push_back({of(filtering.filtered), of(filtering.predicted),
                     chunks.failed_step.data(), of_chunks.back().data()});
  }
  chunked.for_packs([&](Index k, Index first, Workspace& workspace) {
    kernels().gaussian_filter(chunked.all[k].problem, parts[k], first, workspace);
  });
  for (std::size_t k = 0; k < parts.size(); ++k) {
    Chunks<GaussianProblem>& chunks = chunked.all[k];
    double before = 0.0;
    for (Index t = 0; t < problem.lengths[chunks.n]; ++t) {
      if (t > 0 && t % chunks.cut.length == 0)
        before += of_chunks[k][t / chunks.cut.length - 1];
      *filtering.filtered.log_normalizer.at(chunks.n, t) += before;
      *filtering.predicted.log_normalizer.at(chunks.n, t) += before;
    }
    chunks.note_failures();
  }
  chunked.for_others([&](const GaussianProblem& alone, Index n, Workspace& workspace) {
    kernels().gaussian_filter(alone, filtering, n, workspace);
  });
}

}  // namespace svae
