/* The thread that fetches feeds (libcurl) and resolves names (resolve.h), many at a time. */
#ifndef POSTERN_SERVER_FEEDS_FETCH_H
#define POSTERN_SERVER_FEEDS_FETCH_H

#include "common/loop.h"
#include "server/policy/ranges.h"

struct fetcher;

struct fetch {
	/* What to do. Texts belong to the job. */
	char *url; /* NULL: `name` is resolved */
	char *name;
	char *etag, *pinned_key, *json_pointer, *json_key; /* may be "" */
	bool is_json;
	uint64_t timeout_ms, max_size;
	void (*done)(struct fetch *fetch); /* on the loop; the job is the callee's again */
	void *arg;
	/* What came of it. */
	struct error err;
	bool unchanged; /* 304: what the etag is of */
	struct ranges ranges; /* normalized */
	char new_etag[256];
	uint64_t ttl_ms; /* names */
	/* The fetcher's. */
	struct fetch *next;
	struct loop_task task;
	struct fetcher *fetcher;
	void *easy, *headers;
	char *body;
	size_t size, room;
	bool too_large;
};

/* `ca_file` NULL = the system's. */
enum status fetcher_new(
	struct loop *loop, const char *ca_file, struct fetcher **ret_fetcher, struct error *err);
/* What is under way ends with CANCELLED; every `done` is called before it returns. Accepts NULL. */
void fetcher_free(struct fetcher *fetcher);
void fetcher_submit(struct fetcher *fetcher, struct fetch *fetch); /* loop thread; takes the job */
void fetch_free(struct fetch *fetch); /* accepts NULL */

#endif
