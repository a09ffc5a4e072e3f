/* A thread beside the loop for work that takes long: compiling policies. Jobs run one after the
 * other, in order. */
#ifndef POSTERN_SERVER_WORKER_H
#define POSTERN_SERVER_WORKER_H

#include <stdbool.h>

#include "common/error.h"

struct loop;
struct worker;

enum status worker_new(struct loop *loop, struct worker **ret_worker, struct error *err);
/* Ends the thread after the job that runs; those that wait are not run. The `done` of every job is
 * called before it returns, on the calling (the loop's) thread. Accepts NULL. */
void worker_free(struct worker *worker);
/* `run` on the worker's thread, then `done` on the loop; `ran` false: the worker ended before its
 * turn. Loop thread. False: out of memory, and neither is called. */
bool worker_submit(struct worker *worker, void (*run)(void *arg), void (*done)(void *arg, bool ran),
	void *arg);

#endif
