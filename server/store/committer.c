/* Group commit. The thread takes all that waits (at most GROUP_ROWS), applies it within one SQL
 * transaction and commits once: with synchronous=FULL that is one fdatasync for the group. While it
 * waits for the disk the next group collects. If a group fails, database and chain go back to where
 * they were and each transaction is tried alone, so that a bad one takes no other along. The
 * sequence is given out here: what failed never had one, so the chain has no gaps.
 *
 * A commit that fails with an I/O error may have reached the disk all the same. Its frames lie
 * behind the end of the log as SQLite knows it and the next commit overwrites them; only a crash of
 * the whole machine before that could bring them back, as a grant that was refused to its caller
 * and that a retry with the same request id then finds.
 *
 * Facts (store_txn_new_fact) have already happened. When the disk refuses one, it is kept and tried
 * again every RETRY_US and with every new submission, and nothing submitted later overtakes it:
 * later facts queue behind it, everything else is refused with the same error. Otherwise an old
 * state of a grant could be written over its newer one. Only when the server ends is a fact given
 * back unwritten.
 *
 * The log. SQLite's automatic checkpoint would run inside a commit and delay whoever waits for it;
 * a checkpoint from another thread never catches up with a busy writer, and the log grows without
 * bound. So this thread moves pages itself, between groups and after their answers have left: when
 * it has been idle for IDLE_US and the log has LOG_IDLE frames, and in any case at LOG_BUSY frames.
 * Readers hold their snapshots for one bounded step only; what a checkpoint had to leave because of
 * them is moved by the next one, LOG_BUSY frames later. */
#include "server/store/committer.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/store/sqlite.h"
#include "server/store/txn.h"
#include "server/store/writer.h"

#define GROUP_ROWS 1000 /* 40-55 ms of work; beyond it a larger group gains next to nothing */
#define RETRY_US 1000000
#define IDLE_US 20000
#define LOG_IDLE 64
#define LOG_BUSY 256 /* about 1 ms of work; 1024 gains nothing and doubles the tail */
#define LOG_WARN 16384 /* 64 MiB: some foreign reader keeps an old snapshot */
#define FLOW_MEMORY_US (15 * 60 * 1000000LL)
#define FORGET_ROWS 200
#define FORGET_EVERY_US 10000000
#define FORGET_MORE_US 20000 /* up to 10,000 flows a second, more than a server journals */

struct list {
	struct store_txn *first, **end;
};

struct committer {
	struct sqlite3 *db;
	struct writer *writer;
	committer_finished_cb finished;
	void *arg;
	pthread_t thread;
	/* The thread's own. */
	struct chain chain, first_chain;
	struct list kept; /* facts that the disk refused */
	int64_t retry_us, forget_us;
	int frames; /* length of the log, kept by SQLite */
	int seen, moved_at; /* that length after the last group, and at the last checkpoint of this
			       log */
	bool checkpoint_failed, warned_long;
	/* Under the mutex. */
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	struct list queue;
	bool stopping;
	struct store_stats stats;
};

static void list_init(struct list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_add(struct list *list, struct store_txn *txn)
{
	txn->next = NULL;
	*list->end = txn;
	list->end = &txn->next;
}

/* Moves transactions of at most `rows` rows in all, but at least one. False: some stay behind. */
static bool list_move(struct list *from, struct list *to, size_t *rows)
{
	while (from->first && (!to->first || from->first->rows <= *rows)) {
		struct store_txn *txn = from->first;
		*rows -= txn->rows < *rows ? txn->rows : *rows;
		from->first = txn->next;
		list_add(to, txn);
	}
	if (!from->first)
		from->end = &from->first;
	return !from->first;
}

/* ---- one group ---- */

static enum status apply_range(struct committer *committer, struct store_txn *first,
	const struct store_txn *end, struct error *err)
{
	struct chain before = committer->chain;
	enum status status = db_exec(committer->db, "BEGIN IMMEDIATE", err);
	if (status)
		return status;
	for (struct store_txn *txn = first; txn != end && !status; txn = txn->next)
		if (txn->result.status == STATUS_OK)
			status = writer_apply(committer->writer, txn, &committer->chain, err);
	if (!status)
		status = db_exec(committer->db, "COMMIT", err);
	if (status) {
		(void)db_exec(committer->db, "ROLLBACK", NULL);
		committer->chain = before;
	}
	return status;
}

static bool is_kept(const struct store_txn *txn, const struct error *err)
{
	return txn->is_fact && err->reason == REASON_JOURNAL_UNAVAILABLE;
}

/* Each alone. What must be tried again moves to `kept` (*ret_blocked says why), what has an answer
 * to `done`. */
static void commit_each(struct committer *committer, struct list *group, bool last_chance,
	struct list *done, struct error *ret_blocked)
{
	struct error blocked = {0};
	for (struct store_txn *txn = group->first, *next; txn; txn = next) {
		struct error err = blocked;
		next = txn->next;
		if (!txn->result.status && !blocked.status)
			(void)apply_range(committer, txn, next, &err);
		if (!txn->result.status && err.status && is_kept(txn, &err) && !last_chance) {
			blocked = err;
			list_add(&committer->kept, txn);
			continue;
		}
		if (!txn->result.status && err.status)
			txn->result = err;
		list_add(done, txn);
	}
	*ret_blocked = blocked;
}

/* The disk is full or broken: nothing that waits may overtake a kept fact, and nobody shall wait
 * for the disk. */
static void refuse_queue(struct committer *committer, const struct error *why, struct list *done)
{
	struct list queue;
	list_init(&queue);
	pthread_mutex_lock(&committer->mutex);
	size_t all = SIZE_MAX;
	(void)list_move(&committer->queue, &queue, &all);
	pthread_mutex_unlock(&committer->mutex);
	for (struct store_txn *txn = queue.first, *next; txn; txn = next) {
		next = txn->next;
		if (txn->is_fact && !txn->result.status) {
			list_add(&committer->kept, txn);
			continue;
		}
		if (!txn->result.status)
			txn->result = *why;
		list_add(done, txn);
	}
}

static void commit_group(
	struct committer *committer, struct list *group, bool last_chance, struct list *done)
{
	struct error err = {0};
	if (apply_range(committer, group->first, NULL, &err) == STATUS_OK) {
		*done->end = group->first;
		done->end = group->end;
		return;
	}
	struct list behind = committer->kept; /* facts that did not fit into this group stay behind
						 those that did */
	if (!behind.first)
		list_init(&behind);
	list_init(&committer->kept);
	commit_each(committer, group, last_chance, done, &err);
	if (behind.first) {
		*committer->kept.end = behind.first;
		committer->kept.end = behind.end;
	}
	if (err.status) {
		committer->retry_us = clock_mono_us() + RETRY_US;
		refuse_queue(committer, &err, done);
	}
}

static void count(struct committer *committer, const struct list *done, int64_t us)
{
	struct store_stats *stats = &committer->stats;
	bool committed = false;
	for (const struct store_txn *txn = done->first; txn; txn = txn->next) {
		stats->transactions += !txn->result.status;
		stats->failures += txn->result.status != STATUS_OK;
		committed |= !txn->result.status;
	}
	stats->entries = committer->chain.sequence;
	if (!committed)
		return;
	stats->commits++;
	stats->last_commit_us = (uint64_t)us;
	if ((uint64_t)us > stats->max_commit_us)
		stats->max_commit_us = (uint64_t)us;
}

static void hand_back(struct committer *committer, struct list *done, int64_t us)
{
	if (!done->first)
		return;
	pthread_mutex_lock(&committer->mutex);
	count(committer, done, us);
	pthread_mutex_unlock(&committer->mutex);
	committer->finished(committer->arg, done->first, done->end);
}

/* ---- between groups ---- */

static void checkpoint(struct committer *committer)
{
	struct error err;
	int left = 0;
	bool failed = db_checkpoint(committer->db, &left, &err) != STATUS_OK;
	if (failed && !committer->checkpoint_failed)
		log_warn("journal: its log cannot be moved into the database: %s", err.text);
	if (left > LOG_WARN && !committer->warned_long)
		log_warn("journal: its log has grown to %d pages: another program reads the "
			 "database: end it",
			committer->frames);
	committer->checkpoint_failed = failed;
	committer->warned_long = left > LOG_WARN;
	committer->moved_at = committer->frames;
}

/* Frames since the last checkpoint. */
static int log_growth(const struct committer *committer)
{
	return committer->frames - committer->moved_at;
}

static void watch_log(struct committer *committer)
{
	if (committer->frames < committer->seen)
		committer->moved_at = 0; /* SQLite has begun the log anew */
	committer->seen = committer->frames;
	if (log_growth(committer) >= LOG_BUSY)
		checkpoint(committer);
}

static void forget(struct committer *committer)
{
	int64_t now = clock_mono_us();
	bool more = false;
	if (now < committer->forget_us)
		return;
	/* When the disk refuses this it refuses more important things too, which say so. */
	(void)writer_forget_flows(
		committer->writer, clock_real_us() - FLOW_MEMORY_US, FORGET_ROWS, &more, NULL);
	committer->forget_us = now + (more ? FORGET_MORE_US : FORGET_EVERY_US);
}

/* ---- the thread ---- */

/* With the mutex held. False when `due` (monotonic) has come without a signal. */
static bool wait_until(struct committer *committer, int64_t due_us)
{
	if (due_us == CLOCK_NEVER) {
		pthread_cond_wait(&committer->wake, &committer->mutex);
		return true;
	}
	struct timespec due = {.tv_sec = due_us / 1000000, .tv_nsec = due_us % 1000000 * 1000};
	return pthread_cond_timedwait(&committer->wake, &committer->mutex, &due) == 0;
}

/* With the mutex held. True when there is something to commit, false when everything is done and
 * the end has come. */
static bool wait_for_work(struct committer *committer)
{
	while (!committer->queue.first) {
		bool is_long = log_growth(committer) >= LOG_IDLE;
		if (committer->stopping ||
			(committer->kept.first && clock_mono_us() >= committer->retry_us))
			return committer->kept.first != NULL;
		int64_t due = committer->kept.first ? committer->retry_us
			: is_long                   ? clock_mono_us() + IDLE_US
						    : CLOCK_NEVER;
		if (!wait_until(committer, due) && is_long && !committer->kept.first) {
			pthread_mutex_unlock(&committer->mutex);
			checkpoint(committer);
			pthread_mutex_lock(&committer->mutex);
		}
	}
	return true;
}

static void *run(void *arg)
{
	struct committer *committer = arg;
	pthread_mutex_lock(&committer->mutex);
	while (wait_for_work(committer)) {
		struct list group, done;
		size_t rows = GROUP_ROWS;
		list_init(&group);
		list_init(&done);
		if (list_move(&committer->kept, &group, &rows))
			(void)list_move(&committer->queue, &group, &rows);
		bool last_chance = committer->stopping;
		pthread_mutex_unlock(&committer->mutex);
		int64_t begin = clock_mono_us();
		commit_group(committer, &group, last_chance, &done);
		hand_back(committer, &done, clock_mono_us() - begin);
		forget(committer);
		watch_log(committer);
		pthread_mutex_lock(&committer->mutex);
	}
	pthread_mutex_unlock(&committer->mutex);
	return NULL;
}

/* ---- outside ---- */

void committer_submit(struct committer *committer, struct store_txn *txn)
{
	pthread_mutex_lock(&committer->mutex);
	list_add(&committer->queue, txn);
	pthread_cond_signal(&committer->wake);
	pthread_mutex_unlock(&committer->mutex);
}

void committer_stats(struct committer *committer, struct store_stats *ret_stats)
{
	pthread_mutex_lock(&committer->mutex);
	*ret_stats = committer->stats;
	pthread_mutex_unlock(&committer->mutex);
}

void committer_first_head(
	const struct committer *committer, uint64_t *ret_sequence, uint8_t ret_hash[static 32])
{
	*ret_sequence = committer->first_chain.sequence;
	memcpy(ret_hash, committer->first_chain.hash, ENTRY_HASH_SIZE);
}

static enum status start(struct committer *committer, struct error *err)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
	int rc = pthread_create(&committer->thread, NULL, run, committer);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc ? error_errno(
			    err, STATUS_RESOURCE_EXHAUSTED, rc, "cannot start the journal's thread")
		  : STATUS_OK;
}

static void dispose(struct committer *committer)
{
	writer_free(committer->writer);
	db_close(committer->db);
	pthread_cond_destroy(&committer->wake);
	pthread_mutex_destroy(&committer->mutex);
	free(committer);
}

enum status committer_new(struct sqlite3 *db, committer_finished_cb finished, void *arg,
	struct committer **ret_committer, struct error *err)
{
	struct committer *committer = calloc(1, sizeof *committer);
	pthread_condattr_t monotonic;
	if (!committer) {
		db_close(db);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	committer->db = db;
	committer->finished = finished;
	committer->arg = arg;
	list_init(&committer->kept);
	list_init(&committer->queue);
	pthread_mutex_init(&committer->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&committer->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	enum status status = chain_load(db, &committer->chain, err);
	if (!status)
		status = writer_new(db, &committer->writer, err);
	committer->first_chain = committer->chain;
	db_watch_log(db, &committer->frames);
	if (!status)
		status = start(committer, err);
	if (status) {
		dispose(committer);
		return status;
	}
	*ret_committer = committer;
	return STATUS_OK;
}

void committer_free(struct committer *committer)
{
	if (!committer)
		return;
	pthread_mutex_lock(&committer->mutex);
	committer->stopping = true;
	pthread_cond_signal(&committer->wake);
	pthread_mutex_unlock(&committer->mutex);
	pthread_join(committer->thread, NULL);
	dispose(committer);
}
