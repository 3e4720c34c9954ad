// Passes over the rows of a network's layers, between the matrix products of BLAS: each
// reads and writes what it needs once.
//
// A hidden layer is held unit by unit, (N, R): BLAS is faster where the longer side of a
// product is the contiguous one. What the heads say is held row by row, (R, P), as the
// data are. Neither threads nor other rows change a digit of a row.
#pragma once

#include "kernels.hpp"
#include "layers/activations.hpp"

namespace svae {
namespace SVAE_ISA_NAMESPACE {

template <class V>
SVAE_ALWAYS_INLINE V load(const double* from,  // (count,)
                          Index count) {
  V x{};
  if (count == width<V>) {
    __builtin_memcpy(&x, from, sizeof x);
  } else {
    for (Index w = 0; w < count; ++w) lane(x, w) = from[w];
  }
  return x;
}

template <class V>
SVAE_ALWAYS_INLINE void store(V x, double* to,  // (count,)
                              Index count) {
  if (count == width<V>) {
    __builtin_memcpy(to, &x, sizeof x);
  } else {
    for (Index w = 0; w < count; ++w) to[w] = lane(x, w);
  }
}

// body(k, count) for the columns k, ..., k + count - 1: as many as there are lanes, but
// in the end.
template <class V, class Body>
SVAE_ALWAYS_INLINE void for_columns(Index num_columns, const Body& body) {
  Index k = 0;
  for (; k + width<V> <= num_columns; k += width<V>) body(k, width<V>);
  if (k < num_columns) body(k, num_columns - k);
}

template <class V>
SVAE_ALWAYS_INLINE double sum_of_lanes(V x) {
  double sum = 0.0;
  for (Index w = 0; w < width<V>; ++w) sum += lane(x, w);
  return sum;
}

// outputs = f(inputs), entry by entry
template <class V, class Function>
SVAE_ALWAYS_INLINE void map_entries(const double* inputs,  // (count,)
                                    double* outputs,       // (count,)
                                    Index count, const Function& function) {
  for_columns<V>(count, [&](Index k, Index some) SVAE_INLINE {
    store(function(load<V>(inputs + k, some)), outputs + k, some);
  });
}

template <class V>
void activate(Activation which, const double* inputs,  // (count,)
              double* outputs,                         // (count,)
              Index count) {
  switch (which) {
    case Activation::kExp:
      return map_entries<V>(inputs, outputs, count, [](V x) { return exp(x); });
    case Activation::kLog:
      return map_entries<V>(inputs, outputs, count,
                            [](V x) { return log_of_nonnegative(x); });
    case Activation::kTanh:
      return map_entries<V>(inputs, outputs, count, [](V x) { return tanh(x); });
    case Activation::kLogistic:
      return map_entries<V>(inputs, outputs, count, [](V x) { return logistic(x); });
    case Activation::kSoftplus:
      return map_entries<V>(inputs, outputs, count, [](V x) { return softplus(x); });
  }
}

// y = tanh(x + b), in the place of x
template <class V>
void tanh_layer(const TanhLayer& layer, Index first, Index last) {
  const Index R = layer.num_rows;
  for (Index unit = first; unit < last; ++unit) {
    double* values = layer.values + unit * R;
    const V b = broadcast<V>(layer.bias[unit]);
    map_entries<V>(values, values, R, [b](V x) { return tanh(x + b); });
  }
}

// y = tanh(x + b): x_bar = y_bar (1 - y^2), b_bar its sum over the rows
template <class V>
void tanh_layer_vjp(const TanhLayerAdjoint& layer, Index first, Index last) {
  const Index R = layer.num_rows;
  for (Index unit = first; unit < last; ++unit) {
    const double* y = layer.outputs + unit * R;
    const double* y_bar = layer.outputs_bar + unit * R;
    double* x_bar = layer.inputs_bar + unit * R;
    V sum = broadcast<V>(0.0);
    for_columns<V>(R, [&](Index k, Index count) SVAE_INLINE {
      const V value = load<V>(y + k, count);
      const V slope = broadcast<V>(1.0) - value * value;
      const V bar = load<V>(y_bar + k, count) * slope;
      sum += bar;
      store(bar, x_bar + k, count);
    });
    layer.bias_bar[unit] = sum_of_lanes(sum);
  }
}

// log N(y; m, v) of each row, summed over the columns, with m = a or logistic(a) and
// v = exp(10 tanh(s / 10)) or softplus(s) + floor; its slopes in a, s (and v) take the
// place of these.
template <class V, bool kLogisticMean, bool kSoftplusScale>
SVAE_ALWAYS_INLINE void gaussian_head_row(const GaussianHead& head, Index r) {
  const Index P = head.num_columns, T = head.num_timesteps;
  const Index datum = (r / (head.num_samples * T) * T + r % T) * P;
  const V zero = broadcast<V>(0.0), one = broadcast<V>(1.0), half = broadcast<V>(0.5);
  V sum = zero;
  for_columns<V>(P, [&](Index k, Index count) SVAE_INLINE {
    const Index i = r * P + k;
    V a = load<V>(head.location + i, count) + load<V>(head.location_bias + k, count);
    if (head.offset) a += load<V>(head.offset + i, count);
    const V s = load<V>(head.scale + i, count) + load<V>(head.scale_bias + k, count);

    V m = a, m_slope = one;
    if constexpr (kLogisticMean) {
      m = logistic(a);
      m_slope = m * (one - m);
    }
    V log_v, precision, v_slope;  // the last: of s, relative to v unless by softplus
    if constexpr (kSoftplusScale) {
      const V v = softplus(s) + load<V>(head.floor + k, count);
      log_v = log_of_nonnegative(v);
      precision = one / v;
      v_slope = logistic(s);
    } else {
      const V t = tanh(broadcast<V>(0.1) * s);
      log_v = broadcast<V>(10.0) * t;
      precision = exp_of_moderate(-log_v);
      v_slope = one - t * t;
    }
    const V error = load<V>(head.data + datum + k, count) - m;
    const V weighted = error * precision;
    const V square = error * weighted;
    V term = square + (log_v + broadcast<V>(0x1.d67f1c864beb5p0));  // log(2 pi)
    V of_a = weighted * m_slope;
    V of_v = half * (square - one);
    if constexpr (kSoftplusScale) of_v *= precision;
    if (head.observed) {
      V observed{};
      for (Index w = 0; w < count; ++w)
        lane(observed, w) = double(head.observed[datum + k + w]);
      const auto is_observed = observed != zero;
      term = select(is_observed, term, zero);
      of_a = select(is_observed, of_a, zero);
      of_v = select(is_observed, of_v, zero);
    }
    for (Index w = count; w < width<V>; ++w) lane(term, w) = 0.0;
    sum += term;
    store(of_a, head.location + i, count);
    store(of_v * v_slope, head.scale + i, count);
    if constexpr (kSoftplusScale) store(of_v, head.variance_slope + i, count);
  });
  head.log_density[r] = -0.5 * sum_of_lanes(sum);
}

template <class V>
void gaussian_head(const GaussianHead& head, Index first, Index last) {
  for (Index r = first; r < last; ++r) {
    if (head.floor && head.logistic_mean) gaussian_head_row<V, true, true>(head, r);
    if (head.floor && !head.logistic_mean) gaussian_head_row<V, false, true>(head, r);
    if (!head.floor && head.logistic_mean) gaussian_head_row<V, true, false>(head, r);
    if (!head.floor && !head.logistic_mean) gaussian_head_row<V, false, false>(head, r);
  }
}

// Kingma and Ba (2015), Algorithm 1, upwards. Returns whether the gradient is finite.
template <class V>
bool adam(const AdamStep& step, Index first, Index last) {
  const V mean_decay = broadcast<V>(step.mean_decay), one = broadcast<V>(1.0);
  const V square_decay = broadcast<V>(step.square_decay);
  const V rate = broadcast<V>(step.rate), epsilon = broadcast<V>(step.epsilon);
  V not_finite = broadcast<V>(0.0);  // g - g is 0, or NaN
  for_columns<V>(last - first, [&](Index k, Index count) SVAE_INLINE {
    k += first;
    const V g = load<V>(step.gradient + k, count);
    const V mean = mean_decay * load<V>(step.mean + k, count) + (one - mean_decay) * g;
    const V square =
        square_decay * load<V>(step.square + k, count) + (one - square_decay) * (g * g);
    const V move = rate * mean / (sqrt(square) + epsilon);
    not_finite += g - g;
    store(load<V>(step.vector + k, count) + move, step.new_vector + k, count);
    store(mean, step.new_mean + k, count);
    store(square, step.new_square + k, count);
  });
  return sum_of_lanes(not_finite) == 0.0;
}

}  // namespace SVAE_ISA_NAMESPACE
}  // namespace svae
