#include "threads/pool.hpp"

#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace svae {

namespace {

constexpr double kWorkOfThread = 3e5;  // operations: some ten times what waking one costs

thread_local Workspace workspace_of_this_thread;

// The indices of one call; any number of threads may work on it.
class Job {
 public:
  Job(Index count, const std::function<void(Index, Workspace&)>& task)
      : count_(count), task_(task) {}

  void work() {
    try {
      for (Index i; (i = next_++) < count_;) {
        workspace_of_this_thread.reset();
        task_(i, workspace_of_this_thread);
      }
    } catch (...) {
      next_ = count_;
      std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
    }
    workspace_of_this_thread.trim();
  }

  void rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const Index count_;
  const std::function<void(Index, Workspace&)>& task_;
  std::atomic<Index> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Where threads may run on several CPUs, a scheduler that sees no cache which these share
// wakes a helper on the CPU of the thread that wakes it, and leaves both there for
// milliseconds while another is idle: longer than most calls take.
int current_cpu() {
#ifdef __linux__
  return sched_getcpu();
#else
  return -1;
#endif
}

void leave_cpu([[maybe_unused]] int cpu) {
#ifdef __linux__
  if (cpu < 0 || sched_getcpu() != cpu) return;
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

class Pool {
 public:
  // The calling thread and as many helpers, or as many as there can be; alone if another
  // call has the pool.
  void run(Job& job, Index num_helpers) {
    std::unique_lock<std::mutex> mine(in_use_, std::try_to_lock);
    if (!mine || num_helpers < 1) return job.work();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      caller_cpu_ = current_cpu();
      num_helpers_ = num_working_ = hire(num_helpers);
      ++call_;
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return num_working_ == 0; });
  }

  // Lets those beyond the first `count` helpers go.
  void keep_at_most(Index count) {
    std::lock_guard<std::mutex> mine(in_use_);
    std::vector<std::thread> leaving;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (; Index(threads_.size()) > count; threads_.pop_back())
        leaving.push_back(std::move(threads_.back()));
      num_helpers_ = 0;
      ++call_;
    }
    wake_.notify_all();
    for (std::thread& thread : leaving) thread.join();
  }

 private:
  // Returns how many of so many helpers there are: a system may refuse more threads, and
  // no result depends on their number.
  Index hire(Index count) {
    try {
      while (Index(threads_.size()) < count) {
        const Index index = Index(threads_.size());
        threads_.emplace_back([this, index, seen = call_] { help(index, seen); });
      }
    } catch (const std::system_error&) {
    }
    return std::min(count, Index(threads_.size()));
  }

  void help(Index index, unsigned long seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return call_ != seen; });
      seen = call_;
      if (index >= Index(threads_.size())) return;
      if (index >= num_helpers_) continue;
      const int caller_cpu = caller_cpu_;
      lock.unlock();
      leave_cpu(caller_cpu);
      job_->work();
      lock.lock();
      if (--num_working_ == 0) done_.notify_one();
    }
  }

  std::mutex in_use_;
  std::mutex mutex_;  // of all below
  std::condition_variable wake_, done_;
  std::vector<std::thread> threads_;
  Job* job_ = nullptr;
  int caller_cpu_ = -1;
  Index num_helpers_ = 0, num_working_ = 0;
  unsigned long call_ = 0;
};

// Never destroyed: its threads wait for work until the process ends, and after a fork the
// parent's pool, whose threads the child does not have, can be neither used nor joined.
struct PoolOfProcess {
  Pool pool;
  const pid_t owner = getpid();
};
std::atomic<PoolOfProcess*> current{nullptr};

// Null before a first call of this process.
Pool* own_pool() {
  PoolOfProcess* known = current;
  return known && known->owner == getpid() ? &known->pool : nullptr;
}

int default_num_threads() {
  const unsigned count = std::thread::hardware_concurrency();
  return int(std::min<unsigned>(std::max(count, 1u), kMostThreads));
}

std::atomic<int> num_threads{default_num_threads()};

}  // namespace

void set_num_threads(int count) {
  num_threads = count;
  if (Pool* pool = own_pool()) pool->keep_at_most(count - 1);
}
int get_num_threads() { return num_threads; }

void prepare_threads() {
  PoolOfProcess* known = current;
  if (known && known->owner == getpid()) return;
  PoolOfProcess* fresh = new PoolOfProcess;
  // another thread may have been first, and a lock might be held across a fork
  if (!current.compare_exchange_strong(known, fresh)) delete fresh;
}

void run_parallel(Index count, double work,
                  const std::function<void(Index, Workspace&)>& task) {
  Job job(count, task);
  const Index worth = Index(double(count) * work / kWorkOfThread) + 1;
  const Index limit = std::min<Index>({count, num_threads.load(), worth});
  own_pool()->run(job, limit - 1);
  job.rethrow();
}

}  // namespace svae
