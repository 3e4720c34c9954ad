// The extension module svae._core: arrays in, arrays out, for svae/kernels alone.
#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "bindings/arrays.hpp"
#include "bindings/numbers.hpp"
#include "threads/pool.hpp"

namespace svae {
namespace {

const Kernels* chosen_kernels = nullptr;

void set_num_threads_checked(long long num_threads) {
  if (num_threads < 1 || num_threads > kMostThreads)
    throw py::value_error("num_threads is " + std::to_string(num_threads) +
                          ", wanted 1 to " + std::to_string(kMostThreads));
  py::gil_scoped_release released;
  set_num_threads(int(num_threads));
}

void read_environment() {
  chosen_kernels = &choose_kernels(std::getenv("SVAE_ISA"));
  const char* text = std::getenv("SVAE_NUM_THREADS");
  if (!text || !*text) return;
  char* end;
  errno = 0;
  const long num_threads = std::strtol(text, &end, 10);
  if (*end || errno || num_threads < 1 || num_threads > kMostThreads)
    throw std::runtime_error("SVAE_NUM_THREADS=" + std::string(text) +
                             " is not a number of threads, 1 to " +
                             std::to_string(kMostThreads));
  set_num_threads(int(num_threads));
}

py::tuple multiply_add(Index rounds) {
  double sum;
  const Index flops = kernels().multiply_add(0.5, 1.0, rounds, &sum);
  return py::make_tuple(flops, sum);
}

// Whether no entry is NaN or larger than the limit.
bool are_within(const std::vector<py::array_t<double, py::array::c_style>>& arrays,
                double limit) {
  const Range range{limit, false};
  return std::all_of(arrays.begin(), arrays.end(), [&](const auto& array) {
    return range.holds(array.data(), array.size());
  });
}

template <class Function>
void assign(Function& function, std::size_t address) {
  function = reinterpret_cast<Function>(address);
}

void use_lapack(std::size_t dgemm, std::size_t dtrsm, std::size_t dpotrf) {
  assign(lapack.dgemm, dgemm);
  assign(lapack.dtrsm, dtrsm);
  assign(lapack.dpotrf, dpotrf);
}

}  // namespace

const Kernels& kernels() { return *chosen_kernels; }

}  // namespace svae

PYBIND11_MODULE(_core, module) {
  using namespace svae;
  read_environment();
  module.doc() = "The compiled kernels; use svae.kernels";
  module.def("isa", [] { return kernels().isa; }, "Name of the instruction set in use.");
  module.def(
      "set_num_threads", set_num_threads_checked, py::arg("num_threads"),
      "Set how many threads a kernel may use, 1 to 1024; by default as many as the "
      "machine has, or SVAE_NUM_THREADS. Results do not depend on it. Threads that are "
      "no longer wanted end, and where the system refuses some, fewer do the work.");
  module.def("get_num_threads", get_num_threads, "How many threads a kernel may use.");
  module.def("use_lapack", use_lapack, py::arg("dgemm"), py::arg("dtrsm"),
             py::arg("dpotrf"),
             "Take the addresses of BLAS and LAPACK functions, for large matrices.");
  module.def("multiply_add", multiply_add, py::arg("rounds"),
             "Multiply-adds that wait for nothing: their flops, and their sum.");
  module.def("are_within", are_within, py::arg("arrays"), py::arg("limit"),
             "Whether no entry of any array is NaN or larger than that in magnitude.");
  bind_gaussian_chain(module);
  bind_markov_chain(module);
  bind_layers(module);
  bind_mixture(module);
  bind_chain_calls(module);
}
