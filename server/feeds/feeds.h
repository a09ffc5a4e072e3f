/* What sets hold that the document does not spell out: feeds (lists from a URL, by libcurl) and DNS
 * names (by c-ares, with their TTL). The last good copy is in the database and in memory, and stays
 * in use when the source fails; a copy that shrank too much is held back.
 *
 * Threads: one of its own fetches and resolves; everything here is called on the loop. */
#ifndef POSTERN_SERVER_FEEDS_FEEDS_H
#define POSTERN_SERVER_FEEDS_FEEDS_H

#include "server/document/document.h"
#include "server/policy/policy.h"
#include "server/store/record.h"

struct feeds;
struct store;
struct loop;

struct feeds_config {
	struct loop *loop;
	const char *ca_file; /* NULL = the system's */
	void *arg;
	/* Memory has another copy: the owner compiles anew. Journal and row are written by `write`.
	 */
	void (*changed)(void *arg);
	/* Writes row and entry (kind FEED_*, count, detail; NULL = the row alone) as a fact. */
	void (*write)(void *arg, const struct feed_record *record, const struct entry *entry);
};
enum status feeds_new(
	const struct feeds_config *config, struct feeds **ret_feeds, struct error *err);
void feeds_free(struct feeds *feeds); /* accepts NULL; waits for the thread */
/* From the disk, before anything else. Copies. False: memory. */
bool feeds_load(struct feeds *feeds, const struct feed_record *record);

/* The document in force: its feeds and names are refreshed from now on, no others. */
void feeds_follow(struct feeds *feeds, const struct document *document);
/* `cb` when every feed and name of `document` has answered once, now or before; else the failure,
 * SOURCE_UNAVAILABLE with field "feeds[2].url" or "client_sets[0].names[1]". Exactly once, never
 * inside the call. */
typedef void (*feeds_cb)(void *arg, const struct error *err);
void feeds_need(struct feeds *feeds, const struct document *document, feeds_cb cb, void *arg);
void feeds_forget(struct feeds *feeds, void *arg); /* that cb is not called any more */

/* The sources of a document as they are now. The ranges are counted and held until
 * feeds_sources_free(), which may be called on any thread. NULL: memory. */
struct feeds_sources {
	struct policy_source *items;
	size_t count;
};
struct feeds_sources *feeds_sources(struct feeds *feeds, const struct document *document);
void feeds_sources_free(struct feeds_sources *sources);

/* ---- for people ---- */

struct feed_state {
	const struct feed_record *record; /* without content */
	const struct ranges *addresses, *held; /* held NULL = none */
	const char *url; /* "" for names */
	int64_t next_us;
};
typedef void (*feed_state_cb)(void *arg, const struct feed_state *state);
void feeds_each(const struct feeds *feeds, feed_state_cb cb, void *arg);
bool feeds_find(const struct feeds *feeds, const char *name, feed_state_cb cb, void *arg);
/* Now; `cb` (with the failure of the try, NOT_FOUND for an unknown name) when it is over. */
void feeds_refresh(struct feeds *feeds, const char *name, feeds_cb cb, void *arg);
/* Takes the copy that is held back. FAILED_PRECONDITION when none is. */
enum status feeds_confirm(
	struct feeds *feeds, const char *name, const char *actor, struct error *err);

#endif
