/* Sources of sets: feeds and DNS names, each with its last good copy. Internal to the folder; loop
 * thread only, but for the count of a copy's holders. */
#ifndef POSTERN_SERVER_FEEDS_SOURCE_H
#define POSTERN_SERVER_FEEDS_SOURCE_H

#include <stdatomic.h>

#include "common/loop.h"
#include "common/table.h"
#include "server/feeds/feeds.h"

struct fetcher;
struct need;
struct need_link;

struct shared { /* a copy, with whoever compiles with it */
	atomic_uint holders;
	struct ranges ranges;
};

struct waiter { /* for the end of a try */
	struct waiter *next;
	feeds_cb cb;
	void *arg;
};

struct source {
	struct table_node node;
	struct source *next;
	struct feeds *feeds;
	struct feed_record record; /* content and held are packed when they are written */
	char *json_pointer, *json_key, *pinned_key; /* of a feed; as last named */
	bool is_json, followed, busy;
	bool unwritten; /* its copy came for a document that is not in force */
	uint64_t refresh_ms, timeout_ms, max_size, pause_ms;
	uint32_t max_shrink;
	struct shared *copy, *held;
	int64_t next_us; /* monotonic */
	struct waiter *waiters;
	struct need_link *needs;
};

struct feeds {
	struct feeds_config config;
	struct fetcher *fetcher;
	struct table sources;
	struct source *first;
	struct need *needs;
	struct loop_timer clock, change_clock;
	bool change_due, stopping;
};

/* source.c */
struct shared *shared_new(struct ranges *ranges); /* takes them on success; NULL: memory */
void shared_release(struct shared *copy); /* any thread; accepts NULL */
size_t shared_count(const struct shared *copy); /* networks */
bool shared_is_same(const struct shared *copy, const struct ranges *ranges);
bool source_matches(const struct table_node *node, const void *bytes, size_t size);
/* `url` NULL = a DNS name. The same feed from another address is another source. */
struct source *source_find(const struct feeds *feeds, const char *name, const char *url);
struct source *source_get(
	struct feeds *feeds, const char *name, const char *url); /* NULL: memory */
/* Takes the document's word for a feed. False: memory. */
bool source_configure(struct source *source, const struct document_feed *feed);
const char *source_kind(const struct source *source); /* "feed", "name" */
void source_free(struct source *source);

/* attempt.c */
bool source_try(struct source *source); /* false: memory */
/* It is the copy in use from now on; written down and told. */
void source_take(struct source *source, struct shared *copy, const char *etag, const char *actor);
void source_write_taken(struct source *source); /* what was unwritten: it is in force now */
void source_set_clock(struct feeds *feeds); /* for the next try of any */

/* need.c */
void source_end_needs(struct source *source, const struct error *err); /* a try is over */

#endif
