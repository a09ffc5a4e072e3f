/* Design.
 *
 * Threads. The loop builds transactions and submits them; one writer thread owns the write
 * connection; READERS threads own a read connection each. Everything crosses by two queues under
 * one mutex: `submitted` (to the writer) and `reads` (to the readers), and comes back on
 * `finished`, which a single posted task empties on the loop.
 *
 * Group commit. The writer takes all that waits (at most GROUP_MAX), applies it within one SQL
 * transaction and commits once: with synchronous=FULL that is one fdatasync for the group. While it
 * waits for the disk the next group collects. If the group fails, database and chain go back to
 * where they were and each transaction is tried alone, so that one bad row refuses nobody else. The
 * sequence is the writer's: nothing that failed ever had one, so the chain has no gaps.
 *
 * The log. SQLite's automatic checkpoint would run inside a commit and delay whoever waits for it.
 * The writer checkpoints by itself, after it has handed back a group: when it has nothing to do and
 * the log has grown by CHECKPOINT_IDLE_COMMITS commits, and in any case after
 * CHECKPOINT_BUSY_COMMITS, so that the log stays bounded under full load.
 *
 * End. store_close() lets the writer finish what was submitted, joins the threads, and runs the
 * completions. */
#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "server/store/reader.h"
#include "server/store/schema.h"
#include "server/store/sqlite.h"
#include "server/store/txn.h"

#define READERS 2
#define GROUP_MAX 2000
#define BACKLOG_MAX 100000
#define CHECKPOINT_IDLE_COMMITS 64
#define CHECKPOINT_BUSY_COMMITS 1000
#define RETRY_US 1000000
#define FLOW_MEMORY_US (15 * 60 * 1000000LL)
#define FORGET_EVERY_US (60 * 1000000LL)

enum job_kind { JOB_PAGE, JOB_GRANTS, JOB_VERIFY };

struct job {
	struct job *next;
	enum job_kind kind;
	union {
		struct {
			struct store_query query;
			struct page page;
			store_page_cb cb;
		} page;
		struct {
			struct store_grant_query query;
			struct grant_page page;
			store_grants_cb cb;
		} grants;
		struct {
			struct verify_walk walk;
			store_verify_cb cb;
		} verify;
	} as;
	void *arg;
	struct error err;
};

struct store {
	struct loop *loop;
	char *path;
	int lock_fd;
	struct sqlite3 *write_db, *read_db[READERS];
	struct writer *writer;
	struct chain chain; /* writer thread */
	pthread_t write_thread, read_thread[READERS];
	unsigned threads; /* how many of them were started */
	pthread_mutex_t mutex;
	pthread_cond_t work, read_work;
	bool stopping;
	struct store_txn *submitted, **submitted_end, *finished, **finished_end;
	struct job *reads, **reads_end, *answers, **answers_end;
	bool posted;
	struct loop_task task;
	struct store_txn *retrying, **retrying_end; /* facts the journal refused, in order */
	struct loop_timer retry;
	store_committed_cb committed;
	void *committed_arg;
	uint64_t head; /* the loop's view */
	struct store_stats stats;
	size_t backlog;
};

/* ---- back to the loop ---- */

static void submit(struct store *store, struct store_txn *txn)
{
	store->backlog++;
	pthread_mutex_lock(&store->mutex);
	*store->submitted_end = txn;
	store->submitted_end = &txn->next;
	pthread_cond_signal(&store->work);
	pthread_mutex_unlock(&store->mutex);
}

static void retry(void *arg)
{
	struct store *store = arg;
	struct store_txn *txn = store->retrying;
	store->retrying = NULL;
	store->retrying_end = &store->retrying;
	for (struct store_txn *next; txn; txn = next) {
		next = txn->next;
		txn->next = NULL;
		memset(&txn->result, 0, sizeof txn->result);
		submit(store, txn);
	}
}

static bool retry_later(struct store *store, struct store_txn *txn)
{
	if (!txn->is_fact || txn->result.reason != REASON_JOURNAL_UNAVAILABLE || store->stopping)
		return false;
	txn->next = NULL;
	*store->retrying_end = txn;
	store->retrying_end = &txn->next;
	if (!store->retry.armed)
		loop_timer_set(
			store->loop, &store->retry, clock_mono_us() + RETRY_US, retry, store);
	return true;
}

static void deliver_txn(struct store *store, struct store_txn *txn)
{
	if (retry_later(store, txn))
		return;
	if (txn->result.status == STATUS_OK) {
		for (struct op *op = txn->first; op; op = op->next) {
			if (op->kind != OP_ENTRY)
				continue;
			store->head = op->as.entry.entry.sequence;
			if (store->committed)
				store->committed(store->committed_arg, &op->as.entry.entry, 1);
		}
	}
	if (txn->done)
		txn->done(txn->arg, txn->first_sequence, &txn->result);
	store_txn_free(txn);
}

static void deliver_job(struct job *job)
{
	switch (job->kind) {
	case JOB_PAGE:
		job->as.page.cb(job->arg, job->as.page.page.entries, job->as.page.page.count,
			job->as.page.page.next_after, job->as.page.page.at_end, &job->err);
		page_fini(&job->as.page.page);
		break;
	case JOB_GRANTS:
		job->as.grants.cb(
			job->arg, job->as.grants.page.grants, job->as.grants.page.count, &job->err);
		grant_page_fini(&job->as.grants.page);
		break;
	case JOB_VERIFY:
		job->as.verify.cb(job->arg, &job->as.verify.walk.result, &job->err);
		break;
	}
	free(job);
}

static void deliver(void *arg)
{
	struct store *store = arg;
	pthread_mutex_lock(&store->mutex);
	struct store_txn *txn = store->finished;
	struct job *job = store->answers;
	store->finished = NULL;
	store->finished_end = &store->finished;
	store->answers = NULL;
	store->answers_end = &store->answers;
	store->posted = false;
	pthread_mutex_unlock(&store->mutex);
	for (struct store_txn *next; txn; txn = next) {
		next = txn->next;
		store->backlog--;
		deliver_txn(store, txn);
	}
	for (struct job *next; job; job = next) {
		next = job->next;
		deliver_job(job);
	}
}

/* With the mutex held. */
static void post(struct store *store)
{
	if (store->posted)
		return;
	store->posted = true;
	loop_post(store->loop, &store->task, deliver, store);
}

/* ---- the writer ---- */

static enum status apply_group(
	struct store *store, struct store_txn *first, struct store_txn *end, struct error *err)
{
	struct chain before = store->chain;
	enum status status = db_exec(store->write_db, "BEGIN IMMEDIATE", err);
	if (status)
		return status;
	for (struct store_txn *txn = first; txn != end && !status; txn = txn->next)
		if (txn->result.status == STATUS_OK)
			status = writer_apply(store->writer, txn, &store->chain, err);
	if (!status)
		status = db_exec(store->write_db, "COMMIT", err);
	if (status) {
		(void)db_exec(store->write_db, "ROLLBACK", NULL);
		store->chain = before;
	}
	return status;
}

static void commit_group(struct store *store, struct store_txn *first)
{
	struct error err = {0};
	if (apply_group(store, first, NULL, &err) == STATUS_OK)
		return;
	for (struct store_txn *txn = first; txn; txn = txn->next)
		if (txn->result.status == STATUS_OK &&
			(first->next ? apply_group(store, txn, txn->next, &err) : err.status))
			txn->result = err;
}

static struct store_txn *take_group(struct store *store)
{
	struct store_txn *first = store->submitted, *last = first;
	for (int i = 1; i < GROUP_MAX && last->next; i++)
		last = last->next;
	store->submitted = last->next;
	if (!store->submitted)
		store->submitted_end = &store->submitted;
	last->next = NULL;
	return first;
}

static void count_group(struct store *store, struct store_txn *first, int64_t us)
{
	store->stats.commits++;
	store->stats.last_commit_us = (uint64_t)us;
	if ((uint64_t)us > store->stats.max_commit_us)
		store->stats.max_commit_us = (uint64_t)us;
	for (struct store_txn *txn = first; txn; txn = txn->next) {
		store->stats.transactions++;
		store->stats.failures += txn->result.status != STATUS_OK;
	}
	store->stats.entries = store->chain.sequence;
}

static void *write_main(void *arg)
{
	struct store *store = arg;
	unsigned since_checkpoint = 0;
	int64_t forgot_us = 0;
	pthread_mutex_lock(&store->mutex);
	for (;;) {
		if (!store->submitted && since_checkpoint > CHECKPOINT_IDLE_COMMITS) {
			pthread_mutex_unlock(&store->mutex);
			(void)db_checkpoint(store->write_db);
			since_checkpoint = 0;
			pthread_mutex_lock(&store->mutex);
			continue;
		}
		if (!store->submitted) {
			if (store->stopping)
				break;
			pthread_cond_wait(&store->work, &store->mutex);
			continue;
		}
		struct store_txn *group = take_group(store), **end = &group;
		pthread_mutex_unlock(&store->mutex);
		int64_t begin = clock_mono_us();
		commit_group(store, group);
		int64_t now = clock_mono_us();
		while (*end)
			end = &(*end)->next;
		pthread_mutex_lock(&store->mutex);
		count_group(store, group, now - begin);
		*store->finished_end = group;
		store->finished_end = end;
		post(store);
		if (++since_checkpoint > CHECKPOINT_BUSY_COMMITS) {
			pthread_mutex_unlock(&store->mutex);
			(void)db_checkpoint(store->write_db);
			since_checkpoint = 0;
			pthread_mutex_lock(&store->mutex);
		}
		if (now - forgot_us > FORGET_EVERY_US) {
			pthread_mutex_unlock(&store->mutex);
			(void)writer_forget_flows(
				store->writer, clock_real_us() - FLOW_MEMORY_US, NULL);
			forgot_us = now;
			pthread_mutex_lock(&store->mutex);
		}
	}
	pthread_mutex_unlock(&store->mutex);
	return NULL;
}

/* ---- the readers ---- */

static void read_job(struct sqlite3 *db, struct job *job)
{
	switch (job->kind) {
	case JOB_PAGE:
		(void)read_page(db, &job->as.page.query, &job->as.page.page, &job->err);
		return;
	case JOB_GRANTS:
		(void)read_grants(db, &job->as.grants.query, &job->as.grants.page, &job->err);
		return;
	case JOB_VERIFY:
		(void)verify_step(db, &job->as.verify.walk, &job->err);
		return;
	}
}

struct reader_start {
	struct store *store;
	struct sqlite3 *db;
};

static void *read_main(void *arg)
{
	struct reader_start start = *(struct reader_start *)arg;
	struct store *store = start.store;
	free(arg);
	pthread_mutex_lock(&store->mutex);
	for (;;) {
		struct job *job = store->reads;
		if (!job) {
			if (store->stopping)
				break;
			pthread_cond_wait(&store->read_work, &store->mutex);
			continue;
		}
		store->reads = job->next;
		if (!store->reads)
			store->reads_end = &store->reads;
		job->next = NULL;
		pthread_mutex_unlock(&store->mutex);
		read_job(start.db, job);
		pthread_mutex_lock(&store->mutex);
		if (job->kind == JOB_VERIFY && !job->as.verify.walk.done && !job->err.status &&
			!store->stopping) {
			*store->reads_end = job; /* behind those who wait */
			store->reads_end = &job->next;
			continue;
		}
		if (job->kind == JOB_VERIFY && !job->as.verify.walk.done && !job->err.status)
			error_set(&job->err, STATUS_UNAVAILABLE, "the server is stopping");
		*store->answers_end = job;
		store->answers_end = &job->next;
		post(store);
	}
	pthread_mutex_unlock(&store->mutex);
	return NULL;
}

static struct job *job_new(enum job_kind kind, void *arg)
{
	struct job *job = calloc(1, sizeof *job);
	if (job) {
		job->kind = kind;
		job->arg = arg;
	}
	return job;
}

static void submit_job(struct store *store, struct job *job)
{
	pthread_mutex_lock(&store->mutex);
	*store->reads_end = job;
	store->reads_end = &job->next;
	pthread_cond_signal(&store->read_work);
	pthread_mutex_unlock(&store->mutex);
}

static const struct error no_memory = {
	.status = STATUS_RESOURCE_EXHAUSTED, .text = "the server is out of memory"};

void store_read(struct store *store, const struct store_query *query, store_page_cb cb, void *arg)
{
	struct job *job = job_new(JOB_PAGE, arg);
	if (!job) {
		cb(arg, NULL, 0, query->after, false, &no_memory);
		return;
	}
	job->as.page.query = *query;
	job->as.page.cb = cb;
	submit_job(store, job);
}

void store_read_grants(
	struct store *store, const struct store_grant_query *query, store_grants_cb cb, void *arg)
{
	struct job *job = job_new(JOB_GRANTS, arg);
	if (!job) {
		cb(arg, NULL, 0, &no_memory);
		return;
	}
	job->as.grants.query = *query;
	job->as.grants.cb = cb;
	submit_job(store, job);
}

void store_verify(struct store *store, uint64_t known_sequence, const uint8_t known_hash[32],
	store_verify_cb cb, void *arg)
{
	struct job *job = job_new(JOB_VERIFY, arg);
	if (!job) {
		cb(arg, NULL, &no_memory);
		return;
	}
	job->as.verify.cb = cb;
	job->as.verify.walk.known_sequence = known_sequence;
	if (known_sequence)
		memcpy(job->as.verify.walk.known_hash, known_hash, ENTRY_HASH_SIZE);
	submit_job(store, job);
}

/* ---- the loop's side ---- */

struct store_txn *store_txn_new_fact(struct store *store)
{
	struct store_txn *txn = calloc(1, sizeof *txn);
	if (txn) {
		txn->store = store;
		txn->end = &txn->first;
		txn->is_fact = true;
	}
	return txn;
}

struct store_txn *store_txn_new(struct store *store)
{
	struct store_txn *txn = store->backlog < BACKLOG_MAX ? store_txn_new_fact(store) : NULL;
	if (txn)
		txn->is_fact = false;
	return txn;
}

void store_submit(struct store *store, struct store_txn *txn, store_done_cb done, void *arg)
{
	txn->done = done;
	txn->arg = arg;
	submit(store, txn);
}

void store_on_committed(struct store *store, store_committed_cb cb, void *arg)
{
	store->committed = cb;
	store->committed_arg = arg;
}

uint64_t store_head(const struct store *store)
{
	return store->head;
}

void store_stats(const struct store *store, struct store_stats *ret_stats)
{
	struct store *writable = (struct store *)(uintptr_t)store;
	pthread_mutex_lock(&writable->mutex);
	*ret_stats = store->stats;
	ret_stats->backlog = store->backlog;
	pthread_mutex_unlock(&writable->mutex);
}

enum status store_load(struct store *store, const struct store_visitor *visitor, struct error *err)
{
	struct sqlite3 *db = NULL;
	enum status status = db_open(store->path, DB_READ, &db, err);
	if (status)
		return status;
	status = read_live(db, visitor, clock_real_us() - FLOW_MEMORY_US, err);
	db_close(db);
	return status;
}

enum status store_create(const char *path, struct error *err)
{
	struct sqlite3 *db = NULL;
	int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_errno(err,
			errno == EEXIST ? STATUS_ALREADY_EXISTS : STATUS_UNAVAILABLE, errno,
			"%s: cannot create the database", path);
	close(fd);
	enum status status = db_open(path, DB_CREATE, &db, err);
	if (!status)
		status = schema_migrate(db, path, err);
	db_close(db);
	if (status)
		unlink(path);
	return status;
}

static enum status lock(struct store *store, struct error *err)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s.lock", store->path) >= sizeof path)
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "%s: the path is too long", store->path);
	store->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "%s: cannot create the lock file", path);
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: another posternd uses this database: stop it first", store->path);
	return STATUS_OK;
}

static enum status start_threads(struct store *store, struct error *err)
{
	sigset_t all, old;
	int rc = 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&store->write_thread, NULL, write_main, store);
	for (int i = 0; i < READERS && rc == 0; i++) {
		store->threads++;
		struct reader_start *start = malloc(sizeof *start);
		if (!start) {
			rc = ENOMEM;
			break;
		}
		*start = (struct reader_start){.store = store, .db = store->read_db[i]};
		rc = pthread_create(&store->read_thread[i], NULL, read_main, start);
		if (rc != 0)
			free(start);
	}
	if (rc == 0)
		store->threads++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc ? error_errno(
			    err, STATUS_RESOURCE_EXHAUSTED, rc, "cannot start the database threads")
		  : STATUS_OK;
}

enum status store_open(
	const char *path, struct loop *loop, struct store **ret_store, struct error *err)
{
	struct store *store = calloc(1, sizeof *store);
	if (!store)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	store->loop = loop;
	store->lock_fd = -1;
	store->submitted_end = &store->submitted;
	store->finished_end = &store->finished;
	store->retrying_end = &store->retrying;
	store->reads_end = &store->reads;
	store->answers_end = &store->answers;
	pthread_mutex_init(&store->mutex, NULL);
	pthread_cond_init(&store->work, NULL);
	pthread_cond_init(&store->read_work, NULL);
	store->path = strdup(path);
	enum status status = store->path
		? STATUS_OK
		: error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (!status && access(path, F_OK) != 0)
		status = error_errno(err, STATUS_NOT_FOUND, errno,
			"%s: no database: make one with `posternd init`", path);
	if (!status)
		status = lock(store, err);
	if (!status)
		status = db_open(path, DB_WRITE, &store->write_db, err);
	if (!status)
		status = schema_migrate(store->write_db, path, err);
	if (!status)
		status = chain_load(store->write_db, &store->chain, err);
	if (!status)
		status = writer_new(store->write_db, &store->writer, err);
	for (int i = 0; i < READERS && !status; i++)
		status = db_open(path, DB_READ, &store->read_db[i], err);
	store->head = store->chain.sequence;
	if (!status)
		status = start_threads(store, err);
	if (status) {
		store_close(store);
		return status;
	}
	*ret_store = store;
	return STATUS_OK;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	pthread_mutex_lock(&store->mutex);
	store->stopping = true;
	pthread_cond_broadcast(&store->work);
	pthread_cond_broadcast(&store->read_work);
	pthread_mutex_unlock(&store->mutex);
	if (store->threads > 0)
		pthread_join(store->write_thread, NULL);
	for (unsigned i = 1; i < store->threads; i++)
		pthread_join(store->read_thread[i - 1], NULL);
	/* The posted task, if any, runs within this step; completions may not submit any more. */
	while (store->posted)
		loop_step(store->loop, 0);
	loop_timer_clear(store->loop, &store->retry);
	for (struct store_txn *txn = store->retrying, *next; txn; txn = next) {
		next = txn->next;
		deliver_txn(store, txn);
	}
	writer_free(store->writer);
	if (store->write_db)
		(void)db_checkpoint(store->write_db);
	for (int i = 0; i < READERS; i++)
		db_close(store->read_db[i]);
	db_close(store->write_db);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	pthread_cond_destroy(&store->work);
	pthread_cond_destroy(&store->read_work);
	pthread_mutex_destroy(&store->mutex);
	free(store->path);
	free(store);
}
