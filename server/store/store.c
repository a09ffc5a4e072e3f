/* Design.
 *
 * The loop builds transactions and submits them to the committer's thread (committer.c), and
 * questions to the readers' threads (reader.c). Each has a queue and a mutex of its own; what is
 * finished comes back on two lists under this file's mutex, which a single posted task empties on
 * the loop: first the entries of all commits go to the subscriber, then the callbacks run.
 *
 * Ownership. A transaction is its builder's until store_submit(), then the committer's, then the
 * loop's again, which frees it after its callback. A job is the readers' until it is finished.
 * Nothing that a callback is given outlives the callback.
 *
 * End. store_close() ends both kinds of threads (what was submitted is committed, what was asked is
 * refused), then runs the completions. From its first line on, whatever a completion submits is
 * refused at once, by a completion of its own. */
#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "server/store/committer.h"
#include "server/store/reader.h"
#include "server/store/schema.h"
#include "server/store/sqlite.h"
#include "server/store/txn.h"

/* Two seconds of full load: what waits longer would miss its caller's deadline. A transaction is a
 * few KiB. */
#define BACKLOG_MAX 20000
#define FLOW_MEMORY_US (15 * 60 * 1000000LL)

struct store {
	struct loop *loop;
	char *path;
	int lock_fd;
	struct committer *committer;
	struct readers *readers;
	bool closing;
	size_t backlog;
	struct known_head head; /* the newest entry, as the loop knows it */
	store_committed_cb committed;
	void *committed_arg;
	pthread_mutex_t mutex;
	struct store_txn *finished, **finished_end;
	struct read_job *answers, **answers_end;
	bool posted;
	struct loop_task task;
};

/* ---- back to the loop ---- */

static void announce(struct store *store, const struct store_txn *txn)
{
	if (txn->result.status)
		return;
	for (const struct op *op = txn->first; op; op = op->next) {
		if (op->kind != OP_ENTRY)
			continue;
		const struct entry *entry = &op->as.entry.entry;
		store->head.sequence = entry->sequence;
		memcpy(store->head.hash, entry->hash, sizeof store->head.hash);
		if (store->committed)
			store->committed(store->committed_arg, entry, 1);
	}
}

static void deliver(void *arg)
{
	struct store *store = arg;
	pthread_mutex_lock(&store->mutex);
	struct store_txn *txn = store->finished;
	struct read_job *job = store->answers;
	store->finished = NULL;
	store->finished_end = &store->finished;
	store->answers = NULL;
	store->answers_end = &store->answers;
	store->posted = false;
	pthread_mutex_unlock(&store->mutex);
	for (const struct store_txn *each = txn; each; each = each->next)
		announce(store, each);
	for (struct store_txn *next; txn; txn = next) {
		next = txn->next;
		store->backlog--;
		if (txn->done)
			txn->done(txn->arg, txn->first_sequence, &txn->result);
		store_txn_free(txn);
	}
	for (struct read_job *next; job; job = next) {
		next = job->next;
		read_job_deliver(job);
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

static void on_committed(void *arg, struct store_txn *first, struct store_txn **end)
{
	struct store *store = arg;
	pthread_mutex_lock(&store->mutex);
	*store->finished_end = first;
	store->finished_end = end;
	post(store);
	pthread_mutex_unlock(&store->mutex);
}

static void on_read(void *arg, struct read_job *job)
{
	struct store *store = arg;
	pthread_mutex_lock(&store->mutex);
	*store->answers_end = job;
	store->answers_end = &job->next;
	post(store);
	pthread_mutex_unlock(&store->mutex);
}

/* ---- writes ---- */

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
	txn->next = NULL;
	store->backlog++;
	if (!store->closing) {
		committer_submit(store->committer, txn);
		return;
	}
	if (!txn->result.status)
		error_reason(&txn->result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
			"the server is stopping");
	on_committed(store, txn, &txn->next);
}

void store_on_committed(struct store *store, store_committed_cb cb, void *arg)
{
	store->committed = cb;
	store->committed_arg = arg;
}

uint64_t store_head(const struct store *store)
{
	return store->head.sequence;
}

void store_stats(const struct store *store, struct store_stats *ret_stats)
{
	committer_stats(store->committer, ret_stats);
	ret_stats->backlog = store->backlog;
}

/* ---- reads ---- */

static const struct error no_memory = {
	.status = STATUS_RESOURCE_EXHAUSTED, .text = "the server is out of memory"};

static void submit_job(struct store *store, struct read_job *job)
{
	if (!store->closing) {
		readers_submit(store->readers, job);
		return;
	}
	error_set(&job->err, STATUS_UNAVAILABLE, "the server is stopping");
	on_read(store, job);
}

void store_read(struct store *store, const struct store_query *query, store_page_cb cb, void *arg)
{
	struct read_job *job = read_job_new(READ_PAGE, arg);
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
	struct read_job *job = read_job_new(READ_GRANTS, arg);
	if (!job) {
		cb(arg, NULL, 0, &no_memory);
		return;
	}
	job->as.grants.query = *query;
	job->as.grants.cb = cb;
	submit_job(store, job);
}

void store_read_revisions(struct store *store, const struct store_revision_query *query,
	store_revisions_cb cb, void *arg)
{
	struct read_job *job = read_job_new(READ_REVISIONS, arg);
	if (!job) {
		cb(arg, NULL, 0, &no_memory);
		return;
	}
	job->as.revisions.query = *query;
	job->as.revisions.cb = cb;
	submit_job(store, job);
}

void store_verify(struct store *store, uint64_t known_sequence, const uint8_t known_hash[32],
	store_verify_cb cb, void *arg)
{
	struct read_job *job = read_job_new(READ_VERIFY, arg);
	if (!job) {
		struct store_verification nothing = {0};
		cb(arg, &nothing, &no_memory);
		return;
	}
	struct known_head *known = &job->as.verify.walk.known[KNOWN_TO_CALLER];
	known->whose = "the caller knows";
	known->sequence = known_sequence;
	if (known_sequence)
		memcpy(known->hash, known_hash, sizeof known->hash);
	job->as.verify.walk.known[KNOWN_TO_SERVER] = store->head;
	job->as.verify.cb = cb;
	submit_job(store, job);
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

/* ---- begin and end ---- */

static void remove_database(const char *path)
{
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	char file[4096];
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
		if ((size_t)snprintf(file, sizeof file, "%s%s", path, suffixes[i]) < sizeof file)
			unlink(file);
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
		remove_database(path);
	return status;
}

static enum status lock(struct store *store, struct error *err)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s.lock", store->path) >= sizeof path)
		return error_set(
			err, STATUS_INVALID_ARGUMENT, "%s: the path is too long", store->path);
	if (access(store->path, F_OK) != 0)
		return error_errno(err, STATUS_NOT_FOUND, errno,
			"%s: no database: make one with `posternd init`", store->path);
	store->lock_fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return error_errno(
			err, STATUS_UNAVAILABLE, errno, "%s: cannot create the lock file", path);
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return STATUS_OK;
	if (errno == EWOULDBLOCK)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"%s: another posternd uses this database: stop it first", store->path);
	return error_errno(err, STATUS_UNAVAILABLE, errno, "%s: cannot lock it", path);
}

static enum status open_parts(struct store *store, struct error *err)
{
	struct sqlite3 *db = NULL;
	enum status status = lock(store, err);
	if (!status)
		status = db_open(store->path, DB_WRITE, &db, err);
	if (status)
		return status;
	status = schema_migrate(db, store->path, err);
	if (status) {
		db_close(db);
		return status;
	}
	status = committer_new(db, on_committed, store, &store->committer, err);
	if (!status)
		status = readers_new(store->path, on_read, store, &store->readers, err);
	if (status)
		return status;
	store->head.whose = "this server knows";
	committer_first_head(store->committer, &store->head.sequence, store->head.hash);
	return STATUS_OK;
}

enum status store_open(
	const char *path, struct loop *loop, struct store **ret_store, struct error *err)
{
	struct store *store = calloc(1, sizeof *store);
	char *copy = strdup(path);
	if (!store || !copy) {
		free(store);
		free(copy);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	store->loop = loop;
	store->path = copy;
	store->lock_fd = -1;
	store->finished_end = &store->finished;
	store->answers_end = &store->answers;
	pthread_mutex_init(&store->mutex, NULL);
	enum status status = open_parts(store, err);
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
	store->closing = true;
	/* The readers first: the last connection that closes moves the whole log into the database.
	 */
	readers_free(store->readers);
	committer_free(store->committer);
	while (store->posted)
		loop_step(store->loop, 0);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	pthread_mutex_destroy(&store->mutex);
	free(store->path);
	free(store);
}
