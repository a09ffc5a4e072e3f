/* Jobs wait in one queue. A reader works on a job for one bounded step (query.h); what is not done
 * then goes to the back of the queue, so that the verification of a long journal delays a short
 * question by one step at most. */
#include "server/store/reader.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "server/store/sqlite.h"

#define READERS 2

struct reader {
	struct readers *readers;
	struct sqlite3 *db;
	pthread_t thread;
	bool started;
};

struct readers {
	struct reader reader[READERS];
	readers_finished_cb finished;
	void *arg;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	struct read_job *queue, **queue_end;
	bool stopping;
};

/* ---- jobs ---- */

struct read_job *read_job_new(enum read_kind kind, void *arg)
{
	struct read_job *job = calloc(1, sizeof *job);
	if (job) {
		job->kind = kind;
		job->arg = arg;
	}
	return job;
}

/* True when it is done or has failed. */
static bool step(struct sqlite3 *db, struct read_job *job)
{
	switch (job->kind) {
	case READ_PAGE:
		(void)read_page(db, &job->as.page.query, &job->as.page.page, &job->err);
		return true;
	case READ_GRANTS:
		return read_grants(db, &job->as.grants.query, &job->as.grants.page, &job->err) ||
			job->as.grants.page.done;
	case READ_REVISIONS:
		return read_revisions(
			       db, &job->as.revisions.query, &job->as.revisions.page, &job->err) ||
			job->as.revisions.page.done;
	case READ_VERIFY:
		return verify_step(db, &job->as.verify.walk, &job->err) || job->as.verify.walk.done;
	}
	return true;
}

void read_job_deliver(struct read_job *job)
{
	switch (job->kind) {
	case READ_PAGE: {
		struct page *page = &job->as.page.page;
		job->as.page.cb(job->arg, page->entries, page->count, page->next_after,
			page->at_end, &job->err);
		page_fini(page);
		break;
	}
	case READ_GRANTS: {
		struct grant_page *page = &job->as.grants.page;
		job->as.grants.cb(
			job->arg, page->grants, job->err.status ? 0 : page->count, &job->err);
		grant_page_fini(page);
		break;
	}
	case READ_REVISIONS: {
		struct revision_page *page = &job->as.revisions.page;
		job->as.revisions.cb(
			job->arg, page->revisions, job->err.status ? 0 : page->count, &job->err);
		revision_page_fini(page);
		break;
	}
	case READ_VERIFY:
		job->as.verify.cb(job->arg, &job->as.verify.walk.result, &job->err);
		break;
	}
	free(job);
}

/* ---- threads ---- */

static void queue_add(struct readers *readers, struct read_job *job)
{
	job->next = NULL;
	*readers->queue_end = job;
	readers->queue_end = &job->next;
}

static struct read_job *queue_take(struct readers *readers)
{
	struct read_job *job = readers->queue;
	readers->queue = job->next;
	if (!readers->queue)
		readers->queue_end = &readers->queue;
	job->next = NULL;
	return job;
}

static void *run(void *arg)
{
	struct reader *reader = arg;
	struct readers *readers = reader->readers;
	pthread_mutex_lock(&readers->mutex);
	for (;;) {
		if (!readers->queue) {
			if (readers->stopping)
				break;
			pthread_cond_wait(&readers->wake, &readers->mutex);
			continue;
		}
		struct read_job *job = queue_take(readers);
		bool stopping = readers->stopping, done;
		pthread_mutex_unlock(&readers->mutex);
		if (stopping)
			error_set(&job->err, STATUS_UNAVAILABLE, "the server is stopping");
		done = stopping || step(reader->db, job);
		if (done)
			readers->finished(readers->arg, job);
		pthread_mutex_lock(&readers->mutex);
		if (!done)
			queue_add(readers, job);
	}
	pthread_mutex_unlock(&readers->mutex);
	return NULL;
}

void readers_submit(struct readers *readers, struct read_job *job)
{
	pthread_mutex_lock(&readers->mutex);
	queue_add(readers, job);
	pthread_cond_signal(&readers->wake);
	pthread_mutex_unlock(&readers->mutex);
}

static enum status start(struct reader *reader, struct error *err)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
	int rc = pthread_create(&reader->thread, NULL, run, reader);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	reader->started = rc == 0;
	return rc
		? error_errno(err, STATUS_RESOURCE_EXHAUSTED, rc, "cannot start a reader's thread")
		: STATUS_OK;
}

enum status readers_new(const char *path, readers_finished_cb finished, void *arg,
	struct readers **ret_readers, struct error *err)
{
	struct readers *readers = calloc(1, sizeof *readers);
	enum status status = STATUS_OK;
	if (!readers)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	readers->finished = finished;
	readers->arg = arg;
	readers->queue_end = &readers->queue;
	pthread_mutex_init(&readers->mutex, NULL);
	pthread_cond_init(&readers->wake, NULL);
	for (int i = 0; i < READERS && !status; i++) {
		readers->reader[i].readers = readers;
		status = db_open(path, DB_READ, &readers->reader[i].db, err);
		if (!status)
			status = start(&readers->reader[i], err);
	}
	if (status) {
		readers_free(readers);
		return status;
	}
	*ret_readers = readers;
	return STATUS_OK;
}

void readers_free(struct readers *readers)
{
	if (!readers)
		return;
	pthread_mutex_lock(&readers->mutex);
	readers->stopping = true;
	pthread_cond_broadcast(&readers->wake);
	pthread_mutex_unlock(&readers->mutex);
	for (int i = 0; i < READERS; i++) {
		if (readers->reader[i].started)
			pthread_join(readers->reader[i].thread, NULL);
		db_close(readers->reader[i].db);
	}
	pthread_cond_destroy(&readers->wake);
	pthread_mutex_destroy(&readers->mutex);
	free(readers);
}
