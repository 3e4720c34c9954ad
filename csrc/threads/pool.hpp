// A kept pool of threads, to which the packs of a call are handed out.
#pragma once

#include <functional>

#include "threads/memory.hpp"

namespace svae {

constexpr int kMostThreads = 1024;

// Sets how many threads a call may use, 1 to kMostThreads; threads that are kept beyond
// those leave. Call it without the interpreter's lock: it waits for a call under way.
void set_num_threads(int num_threads);
int get_num_threads();

// Calls task(i, workspace) once for every 0 <= i < count, on a kept pool of threads and
// the calling one, each with its own workspace. Which thread takes which i is not
// determined, so a task's result must depend on i alone. If the system refuses a thread,
// those that are there do it all. `work` is about how many operations one i takes: a call
// too short to share stays on its own thread. Call prepare_threads() first; neither needs
// the interpreter's lock. After a fork the child gets threads of its own.
void prepare_threads();
void run_parallel(Index count, double work,
                  const std::function<void(Index, Workspace&)>& task);

}  // namespace svae
