/* The writer thread: commits submitted transactions in groups and keeps the log short. Internal to
 * the store. */
#ifndef POSTERN_SERVER_STORE_COMMITTER_H
#define POSTERN_SERVER_STORE_COMMITTER_H

#include <stdint.h>

#include "common/error.h"
#include "server/store/store.h"

struct committer;
struct sqlite3;
struct store_txn;

/* On the writer's thread: transactions whose fate is known, in order of submission; `end` is the
 * last one's next. Committed ones have their sequences, the others an error in `result`. */
typedef void (*committer_finished_cb)(void *arg, struct store_txn *first, struct store_txn **end);

/* Takes the open, migrated write connection (also when it fails) and starts the thread. */
enum status committer_new(struct sqlite3 *db, committer_finished_cb finished, void *arg,
	struct committer **ret_committer, struct error *err);
/* Finishes what was submitted, ends the thread, closes the connection. Accepts NULL. */
void committer_free(struct committer *committer);
void committer_submit(struct committer *committer, struct store_txn *txn); /* any thread */
void committer_stats(
	struct committer *committer, struct store_stats *ret_stats); /* all but `backlog` */
/* The newest entry when the thread started. */
void committer_first_head(
	const struct committer *committer, uint64_t *ret_sequence, uint8_t ret_hash[static 32]);

#endif
