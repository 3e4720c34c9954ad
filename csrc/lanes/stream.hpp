// Rows of the sequences' arrays, one for each step, to lanes and back.
//
// Eight steps at a time: W numbers of each of W sequences are a square in registers, and
// its transpose is W packs. Whoever goes through the steps in order, up or down, sees
// every block once.
#pragma once

#include "lanes/pack.hpp"
#include "lanes/row.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

constexpr Index kStepsOfBlock = 8;  // not less than there are lanes

// The steps of a block, and where their rows lie: in the array itself, or, of sequences
// that do not have all of them, in a copy.
template <class V>
class RowBlocks {
 protected:
  RowBlocks(const Pack<V>& pack, Index size, Index ahead, Workspace& workspace)
      : pack_(&pack),
        size_(size),
        ahead_(ahead),
        num_steps_(size <= kLargestBlock / kStepsOfBlock ? kStepsOfBlock : 1),
        values_(workspace.take<V>(num_steps_ * size)),
        copies_(workspace.take<double>(num_steps_ * size * width<V>)) {}

  Index num_valid(Index w, Index begin) const {
    const Index steps = ahead_ == 0 ? pack_->own[w] : pack_->length[w] - ahead_;
    const Index valid = steps - begin;
    return valid < 0 ? 0 : valid < num_steps_ ? valid : num_steps_;
  }

  template <class T>
  bool is_in_place(const Rows<T>& rows, Index valid) const {
    return valid == num_steps_ && (num_steps_ == 1 || rows.time_stride == size_);
  }

  double* copy_of(Index w) const { return copies_ + w * num_steps_ * size_; }

  // body(k) for squares [k, k + W) that cover the block; the last may overlap another.
  template <class Body>
  SVAE_ALWAYS_INLINE void for_squares(const Body& body) const {
    const Index count = num_steps_ * size_;
    Index k = 0;
    for (; k + width<V> <= count; k += width<V>) body(k);
    if (k < count) body(count - width<V>);
  }

  // Whether the block has step t: asked at every step of every array, so no division.
  SVAE_ALWAYS_INLINE bool has(Index t) const {
    return t >= begin_ && t < begin_ + num_steps_;
  }

  // Enters the block of step t, and finds that which comes next if steps go on as they
  // do.
  template <class T>
  SVAE_ALWAYS_INLINE void enter(Index t, const Rows<T>& rows) {
    const Index begin = t / num_steps_ * num_steps_;
    const Index next = begin < begin_ ? begin - num_steps_ : begin + num_steps_;
    begin_ = begin;
    for (Index w = 0; w < width<V>; ++w) {
      const bool is_there = next >= 0 && is_in_place(rows, num_valid(w, next));
      next_[w] = is_there ? rows.at(pack_->sequence[w], next) : nullptr;
    }
  }

  // Fetches a part of that block, at every step the rows of another sequence: so many
  // sequences are too many streams for the hardware to foresee, and all of a block at
  // once is too much for it to wait for.
  template <int kWrite>
  SVAE_ALWAYS_INLINE void prefetch(Index step) const {
    const Index count = num_steps_ * size_;
    for (Index w = step; w < width<V>; w += num_steps_)
      for (Index k = 0; next_[w] && k < count; k += kLineOfCache)
        __builtin_prefetch(next_[w] + k, kWrite, 2);
  }

  static constexpr Index kLineOfCache = 64 / sizeof(double);
  static constexpr Index kLargestBlock = 512;
  static constexpr Index kNone = -kStepsOfBlock;

  const Pack<V>* pack_;
  Index size_, ahead_, num_steps_;
  V* values_;
  double* copies_;
  Index begin_ = kNone;           // the first step of those in values_
  const double* next_[width<V>];  // its rows in the next one, null: elsewhere
};

// Row t of every sequence that has the step t + ahead, zeros for the others.
template <class V>
class RowReader : RowBlocks<V> {
 public:
  RowReader(const Pack<V>& pack, const Rows<const double>& rows,  // (N, T - ahead, size)
            Index size, Index ahead, Workspace& workspace)
      : RowBlocks<V>(pack, size, ahead, workspace), rows_(rows) {
    for (Index& count : num_copied_) count = this->num_steps_;  // not zero yet
  }

  SVAE_ALWAYS_INLINE const V* at(Index t) {
    if (!this->has(t)) load(t);
    const Index step = t - this->begin_;
    this->template prefetch<0>(step);
    return this->values_ + step * this->size_;
  }

 private:
  SVAE_NO_INLINE void load(Index t) {
    this->enter(t, rows_);
    const double* row[width<V>];
    for (Index w = 0; w < width<V>; ++w) row[w] = row_of(w, this->begin_);
    this->for_squares([&](Index k) {
      V square[width<V>];
#pragma GCC unroll 8
      for (Index w = 0; w < width<V>; ++w)
        __builtin_memcpy(&square[w], row[w] + k, sizeof(V));
      transpose(square);
#pragma GCC unroll 8
      for (Index w = 0; w < width<V>; ++w) this->values_[k + w] = square[w];
    });
  }

  const double* row_of(Index w, Index begin) {
    const Index n = this->pack_->sequence[w], size = this->size_;
    const Index valid = this->num_valid(w, begin);
    if (this->is_in_place(rows_, valid)) return rows_.at(n, begin);
    double* copy = this->copy_of(w);
    for (Index s = 0; s < valid; ++s)
      __builtin_memcpy(copy + s * size, rows_.at(n, begin + s), size * sizeof(double));
    for (Index k = valid * size; k < num_copied_[w] * size; ++k) copy[k] = 0.0;
    num_copied_[w] = valid;
    return copy;
  }

  Rows<const double> rows_;
  Index num_copied_[width<V>];  // rows of each copy that are not zero
};

// Row t to every sequence that has the step t + ahead.
template <class V>
class RowWriter : RowBlocks<V> {
 public:
  RowWriter(const Pack<V>& pack, const Rows<double>& rows,  // (N, T - ahead, size)
            Index size, Index ahead, Workspace& workspace)
      : RowBlocks<V>(pack, size, ahead, workspace), rows_(rows) {}

  // For the caller to fill, before it asks for a row of another block.
  SVAE_ALWAYS_INLINE V* at(Index t) {
    if (!this->has(t)) {
      store();
      this->enter(t, rows_);
    }
    const Index step = t - this->begin_;
    this->template prefetch<1>(step);
    return this->values_ + step * this->size_;
  }

  // Call it after the last row.
  void finish() {
    store();
    this->begin_ = this->kNone;
  }

 private:
  SVAE_NO_INLINE void store() {
    if (this->begin_ < 0) return;
    const Index begin = this->begin_;
    double* row[width<V>];
    for (Index w = 0; w < width<V>; ++w)
      row[w] = this->is_in_place(rows_, this->num_valid(w, begin))
                   ? rows_.at(this->pack_->sequence[w], begin)
                   : this->copy_of(w);
    this->for_squares([&](Index k) {
      V square[width<V>];
#pragma GCC unroll 8
      for (Index w = 0; w < width<V>; ++w) square[w] = this->values_[k + w];
      transpose(square);
#pragma GCC unroll 8
      for (Index w = 0; w < width<V>; ++w)
        __builtin_memcpy(row[w] + k, &square[w], sizeof(V));
    });
    for (Index w = 0; w < width<V>; ++w)
      if (row[w] == this->copy_of(w)) store_copy(w, begin);
  }

  void store_copy(Index w, Index begin) const {
    const Index size = this->size_, valid = this->num_valid(w, begin);
    for (Index s = 0; s < valid; ++s)
      __builtin_memcpy(rows_.at(this->pack_->sequence[w], begin + s),
                       this->copy_of(w) + s * size, size * sizeof(double));
  }

  Rows<double> rows_;
};

// The same of one sequence, whose rows need no transposing.
template <>
class RowReader<double> {
 public:
  RowReader(const Pack<double>& pack, const Rows<const double>& rows,  // (1, T, size)
            Index size, Index ahead, Workspace& workspace)
      : rows_(rows),
        sequence_(pack.sequence[0]),
        num_rows_(pack.length[0] - ahead),
        size_(size),
        values_(take_row<double>(size, workspace)) {}

  SVAE_ALWAYS_INLINE const double* at(Index t) {
    if (t >= num_rows_) {
      fill_zero(values_, size_);
      return values_;
    }
    // behind its end there is a number that it has
    const double* row = rows_.at(sequence_, t);
    for (Index k = 0; k < size_; k += span<double>)
      put(values_ + k, load_first(row + k, size_ - k, *row));
    return values_;
  }

 private:
  Rows<const double> rows_;
  Index sequence_, num_rows_, size_;
  double* values_;
};

template <>
class RowWriter<double> {
 public:
  RowWriter(const Pack<double>& pack, const Rows<double>& rows,  // (1, T, size)
            Index size, Index ahead, Workspace& workspace)
      : rows_(rows),
        sequence_(pack.sequence[0]),
        num_rows_(pack.length[0] - ahead),
        size_(size),
        values_(take_row<double>(size, workspace)) {}

  SVAE_ALWAYS_INLINE double* at(Index t) {
    if (t != step_) store();
    step_ = t;
    return values_;
  }

  void finish() {
    store();
    step_ = -1;
  }

 private:
  SVAE_ALWAYS_INLINE void store() {
    if (step_ < 0 || step_ >= num_rows_) return;
    double* row = rows_.at(sequence_, step_);
    for (Index k = 0; k < size_; k += span<double>)
      store_first(row + k, wide<double>(values_ + k), size_ - k);
  }

  Rows<double> rows_;
  Index sequence_, num_rows_, size_;
  Index step_ = -1;  // the one in values_
  double* values_;
};

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
