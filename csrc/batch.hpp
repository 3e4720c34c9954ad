// Packs of sequences onto threads.
#pragma once

#include <functional>

#include "workspace.hpp"

namespace svae {

void set_num_threads(int num_threads);
int get_num_threads();

// Calls task(i, workspace) once for every 0 <= i < count, on a kept pool of threads and
// the calling one, each with its own workspace. Which thread takes which i is not
// determined, so a task's result must depend on i alone. `work` is about how many
// operations one i takes: a call too short to share stays on its own thread. Call
// prepare_threads() first, with the interpreter's lock held; run_parallel() needs no
// lock. After a fork the child gets threads of its own.
void prepare_threads();
void run_parallel(Index count, double work,
                  const std::function<void(Index, Workspace&)>& task);

}  // namespace svae
