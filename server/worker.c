/* The loop hands jobs over under a lock and is handed them back by loop_post(), whose task is part
 * of the job; so one allocation a job is all. */
#include "server/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "common/loop.h"

struct job {
	struct job *next;
	struct worker *worker;
	struct loop_task task;
	void (*run)(void *arg);
	void (*done)(void *arg, bool ran);
	void *arg;
	bool ran;
};

struct worker {
	struct loop *loop;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job *first, **end; /* under the lock */
	bool ending; /* under the lock */
	size_t open; /* loop's: jobs whose `done` has not been called */
};

/* NULL: the worker is to end. */
static struct job *next_job(struct worker *worker)
{
	struct job *job = NULL;
	pthread_mutex_lock(&worker->lock);
	while (!worker->first && !worker->ending)
		pthread_cond_wait(&worker->wake, &worker->lock);
	if (!worker->ending) {
		job = worker->first;
		worker->first = job->next;
		if (!worker->first)
			worker->end = &worker->first;
	}
	pthread_mutex_unlock(&worker->lock);
	return job;
}

static void finish(struct job *job)
{
	void (*done)(void *arg, bool ran) = job->done;
	void *arg = job->arg;
	bool ran = job->ran;
	job->worker->open--;
	free(job);
	done(arg, ran);
}

static void on_done(void *arg)
{
	finish(arg);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct job *job;
	while ((job = next_job(worker))) {
		job->run(job->arg);
		job->ran = true;
		loop_post(worker->loop, &job->task, on_done, job);
	}
	return NULL;
}

static int start_thread(struct worker *worker)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int errnum = pthread_create(&worker->thread, NULL, work, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return errnum;
}

enum status worker_new(struct loop *loop, struct worker **ret_worker, struct error *err)
{
	struct worker *worker = calloc(1, sizeof *worker);
	if (!worker)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	worker->loop = loop;
	worker->end = &worker->first;
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->wake, NULL);
	int errnum = start_thread(worker);
	if (!errnum) {
		*ret_worker = worker;
		return STATUS_OK;
	}
	pthread_cond_destroy(&worker->wake);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
	return error_errno(err, STATUS_RESOURCE_EXHAUSTED, errnum,
		"the thread that compiles policies could not be started");
}

void worker_free(struct worker *worker)
{
	if (!worker)
		return;
	pthread_mutex_lock(&worker->lock);
	worker->ending = true;
	pthread_cond_signal(&worker->wake);
	pthread_mutex_unlock(&worker->lock);
	pthread_join(worker->thread, NULL);
	/* A `done` may submit; its job will not run either. */
	while (worker->open > 0) {
		struct job *job = worker->first;
		if (!job) {
			loop_step(worker->loop, 0); /* those that ran are posted */
			continue;
		}
		worker->first = job->next;
		if (!worker->first)
			worker->end = &worker->first;
		finish(job);
	}
	pthread_cond_destroy(&worker->wake);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}

bool worker_submit(
	struct worker *worker, void (*run)(void *arg), void (*done)(void *arg, bool ran), void *arg)
{
	struct job *job = calloc(1, sizeof *job);
	if (!job)
		return false;
	job->worker = worker;
	job->run = run;
	job->done = done;
	job->arg = arg;
	worker->open++;
	pthread_mutex_lock(&worker->lock);
	*worker->end = job;
	worker->end = &job->next;
	pthread_cond_signal(&worker->wake);
	pthread_mutex_unlock(&worker->lock);
	return true;
}
