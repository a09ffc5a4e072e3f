/* The database: one writer thread that commits in groups, reader threads for audit, and loading at
 * start.
 *
 * Threads: store_open, store_load and store_close run on the loop's thread before, respectively
 * after, the loop. store_txn_*, store_submit and the read functions are called on the loop's
 * thread; completions are posted to the loop.
 *
 * A transaction is atomic: all of its rows or none. Transactions commit in the order of submission;
 * many may share one COMMIT (one fsync). If a group fails, each of its transactions is tried alone,
 * so that a bad one takes no other along. */
#ifndef POSTERN_SERVER_STORE_STORE_H
#define POSTERN_SERVER_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"

struct addr;
struct entry;
struct flow_record;
struct gateway_record;
struct grant_record;
struct loop;
struct feed_record;
struct principal_record;
struct protocol_record;
struct revision_record;
struct rule_record;
struct session_record;
struct store;
struct store_txn;

/* Creates the file (0600, refused if it exists) with every migration applied. */
enum status store_create(const char *path, struct error *err);
/* Opens, applies pending migrations in one transaction, refuses a newer schema and a second server
 * (exclusive flock on PATH.lock). Starts the threads. */
enum status store_open(
	const char *path, struct loop *loop, struct store **ret_store, struct error *err);
/* Commits what was submitted, refuses what was asked, ends the threads and runs the outstanding
 * completions (by stepping the loop). Whatever these submit is refused. Accepts NULL. */
void store_close(struct store *store);

/* What is live, in this order: gateways, principals, protocols, rules, the revision in force,
 * feeds, open sessions, grants that
 * are live or have an open flow, flows that are open or closed within the last 15 minutes. Records
 * are valid during the callback. NULL = skip. */
struct store_visitor {
	void *arg;
	void (*gateway)(void *arg, const struct gateway_record *);
	void (*principal)(void *arg, const struct principal_record *);
	void (*protocol)(void *arg, const struct protocol_record *);
	void (*rule)(void *arg, const struct rule_record *);
	void (*revision)(void *arg, const struct revision_record *); /* the newest one, whole */
	void (*feed)(void *arg, const struct feed_record *);
	void (*session)(void *arg, const struct session_record *);
	void (*grant)(void *arg, const struct grant_record *);
	void (*flow)(void *arg, const struct flow_record *);
};
enum status store_load(struct store *store, const struct store_visitor *visitor, struct error *err);
uint64_t store_head(
	const struct store *store); /* sequence of the newest committed entry known to the loop */

/* ---- writes ---- */

struct store_txn *store_txn_new(struct store *store); /* NULL: out of memory or backlog full */
/* For facts that have already happened: not bounded by the backlog, and when the journal is
 * unavailable tried again every second until it is on disk. `done` comes only then, or at the
 * server's end (with the failure). Nothing submitted later overtakes it: later facts wait behind
 * it, other transactions are refused meanwhile. NULL: out of memory. */
struct store_txn *store_txn_new_fact(struct store *store);
void store_txn_free(struct store_txn *txn); /* only if it was never submitted; accepts NULL */
/* Each copies what it is given. Failures (memory) are remembered and fail the submit's completion.
 */
void store_txn_entry(struct store_txn *txn, const struct entry *entry);
void store_txn_put_gateway(
	struct store_txn *txn, const struct gateway_record *gateway); /* insert or replace */
void store_txn_report_position(
	struct store_txn *txn, const char *gateway, const char *instance, uint64_t last_report);
void store_txn_put_principal(struct store_txn *txn, const struct principal_record *principal);
void store_txn_put_protocol(struct store_txn *txn, const struct protocol_record *protocol);
void store_txn_put_rule(struct store_txn *txn, const struct rule_record *rule);
void store_txn_put_revision(struct store_txn *txn,
	const struct revision_record *revision); /* insert, or update of confirm_until_us */
void store_txn_put_feed(struct store_txn *txn, const struct feed_record *feed);
void store_txn_put_session(struct store_txn *txn, const struct session_record *session);
void store_txn_put_grant(struct store_txn *txn,
	const struct grant_record *grant); /* insert, or update of what changes in a grant's life */
void store_txn_put_flow(struct store_txn *txn,
	const struct flow_record *flow); /* insert, or update of figures and closed_us */

/* Called on the loop after the commit (status OK; first_sequence is that of the txn's first entry,
 * its entries are consecutive) or its failure (nothing of it is on disk; reason JOURNAL_UNAVAILABLE
 * for disk full and I/O errors). */
typedef void (*store_done_cb)(void *arg, uint64_t first_sequence, const struct error *err);
void store_submit(struct store *store, struct store_txn *txn, store_done_cb done,
	void *arg); /* takes the txn; done may be NULL */

/* Called on the loop after each commit group with the entries just committed, in sequence order,
 * before the done callbacks of that group. For live event subscribers. */
typedef void (*store_committed_cb)(void *arg, const struct entry *entries, size_t count);
void store_on_committed(struct store *store, store_committed_cb cb, void *arg);

/* ---- reads (reader threads) ---- */

#define STORE_PAGE_MAX 256

struct store_query {
	uint64_t after; /* sequence */
	uint32_t limit; /* at most STORE_PAGE_MAX per call */
	int64_t since_us, until_us;
	char gateway[64];
	char filter[64]; /* with `notify_only`: entries of this filter's grants that asked for
			    notify */
	bool notify_only;
	struct id grant, session;
	char client[48], remote[48]; /* address text, empty = any */
	uint64_t kinds; /* bit per entry_kind, 0 = all */
};
/* `entries` are valid during the callback. `next_after` continues; at_end: nothing more matched
 * when it was read. Work per call is bounded (about 20 ms): a page may hold fewer entries than its
 * limit, or none, without being at the end. */
typedef void (*store_page_cb)(void *arg, const struct entry *entries, size_t count,
	uint64_t next_after, bool at_end, const struct error *err);
void store_read(struct store *store, const struct store_query *query, store_page_cb cb, void *arg);

typedef void (*store_grants_cb)(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err);
/* Ended grants are read from disk: one by id or by (filter, request id), or newest first. */
struct store_grant_query {
	struct id id, request_id,
		before; /* zero = not by this; `before`: continue a newest-first listing */
	char filter[64], gateway[64], client[48];
	struct id session, bundle;
	uint32_t limit; /* at most STORE_PAGE_MAX */
};
void store_read_grants(
	struct store *store, const struct store_grant_query *query, store_grants_cb cb, void *arg);

/* One whole revision, or the newest ones without their documents. */
struct store_revision_query {
	uint64_t number; /* 0 = not by number */
	uint64_t before; /* newest first, below this; 0 = from the newest */
	uint32_t limit; /* at most STORE_PAGE_MAX */
};
typedef void (*store_revisions_cb)(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err);
void store_read_revisions(struct store *store, const struct store_revision_query *query,
	store_revisions_cb cb, void *arg);

struct store_verification {
	bool intact; /* else `bad_sequence` is the first entry that is changed, missing or out of
			place, and `fault` says what it is */
	uint64_t entries, head_sequence, bad_sequence;
	uint8_t head_hash[32];
	char fault[160];
};
/* Walks the chain in bounded steps, so that other reads go on between them: hashes, columns against
 * hashed bodies, sequences, the zones of migrations/0001, revisions
 * against the hashes that the journal has of their documents, the head that this server knows, and
 * the head that the caller knows (known_sequence 0 = none). */
typedef void (*store_verify_cb)(
	void *arg, const struct store_verification *result, const struct error *err);
void store_verify(struct store *store, uint64_t known_sequence, const uint8_t known_hash[32],
	store_verify_cb cb, void *arg);

/* Counters for people. */
struct store_stats {
	uint64_t commits, transactions, entries, failures, backlog;
	uint64_t last_commit_us, max_commit_us;
};
void store_stats(const struct store *store, struct store_stats *ret_stats);

#endif
