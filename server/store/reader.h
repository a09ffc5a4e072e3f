/* The reader threads: queries and verification beside the writer, each on a connection of its own.
 * Internal to the store. */
#ifndef POSTERN_SERVER_STORE_READER_H
#define POSTERN_SERVER_STORE_READER_H

#include <stdbool.h>

#include "common/error.h"
#include "server/store/query.h"
#include "server/store/verify.h"

enum read_kind { READ_PAGE, READ_GRANTS, READ_REVISIONS, READ_VERIFY };

struct read_job {
	struct read_job *next;
	enum read_kind kind;
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
			struct store_revision_query query;
			struct revision_page page;
			store_revisions_cb cb;
		} revisions;
		struct {
			struct verify_walk walk;
			store_verify_cb cb;
		} verify;
	} as;
	void *arg;
	struct error err;
};

/* NULL: out of memory. */
struct read_job *read_job_new(enum read_kind kind, void *arg);
/* Calls back with the result and frees the job; on the loop. */
void read_job_deliver(struct read_job *job);

struct readers;
/* On a reader's thread: the job is done, or has failed. */
typedef void (*readers_finished_cb)(void *arg, struct read_job *job);

enum status readers_new(const char *path, readers_finished_cb finished, void *arg,
	struct readers **ret_readers, struct error *err);
/* Fails the jobs that still wait, ends the threads. Accepts NULL. */
void readers_free(struct readers *readers);
void readers_submit(struct readers *readers, struct read_job *job); /* any thread */

#endif
