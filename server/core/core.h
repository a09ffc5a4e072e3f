/* The heart of posternd: what is live (grants, sessions, gateways, flows) and what happens to it.
 * Loop thread only.
 *
 * Ownership. The core owns every object here. A struct grant lives from its request until it has
 * ended, its end is on disk, no flow of it is open, nobody waits for it, and a moment has passed
 * (late reports still find it): grant_reap() decides. Waiters are owned by the core and point to a
 * call; services only start and end them.
 *
 * Durability (I1). A request's GRANTED entry is committed before its door is sent to the gateway or
 * its caller answered. Facts that already happened (installed, established, closed, ended) change
 * memory at once and go to the journal in transactions that are tried again until they are on disk;
 * a report of an agent is acknowledged only then. */
#ifndef POSTERN_SERVER_CORE_CORE_H
#define POSTERN_SERVER_CORE_CORE_H

#include "common/loop.h"
#include "common/table.h"
#include "server/auth/principals.h"
#include "server/config.h"
#include "server/grants/state.h"
#include "server/policy/policy.h"
#include "server/store/record.h"
#include "server/store/store.h"

struct core;
struct gateway;
struct grant;
struct session;
struct waiter;

/* ---- grants ---- */

struct grant_timing {
	uint64_t decide_us, commit_us, push_us, kernel_us;
};

/* Where an armed grant is on its way to the kernel. */
enum grant_way { WAY_NONE, WAY_PENDING, WAY_SENT, WAY_APPLIED };

struct grant_list {
	struct grant *first, *last;
};

struct grant {
	struct table_node by_id, by_request, by_key;
	struct core *core;
	struct grant_record record;
	struct gateway *gateway;
	struct session *session; /* NULL = none, or closed */
	struct principal *filter;
	bool committed; /* GRANTED is on disk */
	bool ended; /* memory says so */
	bool end_committed; /* and the disk */
	bool counted; /* in filter->live_grants */
	bool in_request_table;
	unsigned open_flows;
	unsigned writes; /* transactions under way that name it */
	int64_t due_us; /* end of its lifetime, monotonic */
	struct loop_timer timer; /* expiry; after the end: reaping */
	struct grant *key_next; /* queue of the same key, the first is armed */
	bool key_first;
	struct grant *session_next, *session_previous;
	/* The gateway's desired state: */
	struct grant *armed_next, *armed_previous;
	bool armed;
	enum grant_way way;
	struct grant *way_next, *way_previous; /* in the list of its way */
	uint64_t sync_sequence; /* of the item that carried it */
	int64_t handed_us, sent_us;
	struct grant_timing timing;
	struct waiter *waiters;
};

/* Someone who waits for a grant; `done` is called once: err->status 0 = granted (and installed, if
 * that was asked for). */
typedef void (*waiter_cb)(void *arg, const struct grant *grant, const struct error *err);
struct waiter {
	struct waiter *next;
	struct grant *grant;
	bool until_decided;
	waiter_cb done;
	void *arg;
};

struct grant_ask {
	struct grant_record
		record; /* gateway, session, client, remote, flags, ...; context borrowed */
	const char *protocol;
	struct principal *asker;
	bool is_admin;
	bool until_decided;
	int64_t began_us;
};

/* Calls `done` at once (and sets *ret_waiter to NULL) when an earlier request with the same id has
 * settled. Otherwise *ret_waiter may be given to core_waiter_cancel until `done` was called. */
enum status core_request(struct core *core, const struct grant_ask *ask, waiter_cb done, void *arg,
	struct waiter **ret_waiter, struct error *err);
/* Nobody waits any more. If the deadline passed and the grant is not installed, it fails: nothing
 * stays open. */
void core_waiter_cancel(struct waiter *waiter, bool deadline_passed);
struct grant *core_find_grant(const struct core *core, const struct id *id);
/* By the request that asked for it; of this filter only. */
struct grant *core_find_request(
	const struct core *core, const char *filter, const struct id *request_id);
/* Closes the door now; `done` when the end is on disk. */
enum status core_cancel(struct core *core, struct grant *grant, enum end_reason reason,
	const char *actor, waiter_cb done, void *arg, struct error *err);
void core_each_grant(struct core *core, void (*cb)(struct grant *grant, void *arg), void *arg);
uint64_t grant_left_ms(const struct grant *grant);

/* For fleet and reports: */
void grant_installed(struct grant *grant, uint64_t kernel_us);
void grant_refused(struct grant *grant, const char *cause);
void grant_used(struct grant *grant, uint64_t flows, struct store_txn *txn);
void grant_flow_closed(struct grant *grant);
void grant_end(struct grant *grant, enum end_reason reason, const char *actor, const char *detail);
/* From the store: live grants go into the books as they were, ended ones (with open flows) as
 * shells. */
void grant_load(struct core *core, const struct grant_record *record);
void grants_fini(struct core *core);
/* key.c: into the queue of its key (and armed if it is the first), out of it (and the next one
 * armed). */
void grant_enqueue(struct grant *grant);
void grant_dequeue(struct grant *grant);
bool grant_has_key(const struct grant *grant, const void *key, size_t size);
void grant_fill_entry(const struct grant *grant, enum entry_kind kind, struct entry *ret_entry);

/* ---- sessions ---- */

struct session {
	struct table_node by_id;
	struct core *core;
	struct session_record record;
	struct gateway *gateway;
	struct grant *grants; /* live ones tied to it */
	uint64_t live_grants;
	struct loop_timer idle;
	bool committed, closing;
};

typedef void (*session_cb)(
	void *arg, const struct session_record *session, const struct error *err);
enum status session_open(struct core *core, const struct session_record *record, session_cb done,
	void *arg, struct error *err);
enum status session_close(
	struct session *session, const char *actor, session_cb done, void *arg, struct error *err);
struct session *session_find(const struct core *core, const struct id *id);
void session_touch(struct session *session);
void session_add_grant(struct session *session, struct grant *grant);
void session_remove_grant(struct grant *grant);
void session_load(struct core *core, const struct session_record *record);
void sessions_fini(struct core *core);

/* ---- gateways ---- */

struct flow_entry;

/* What the agents service gives a gateway to speak through. */
struct agent_link {
	void *arg;
	/* Room for one more item? */
	bool (*ready)(void *arg);
	/* Sends doors (grants) and removals as one item. False: the link is gone. */
	bool (*send)(void *arg, uint64_t sequence, bool snapshot, bool snapshot_end,
		struct grant *const *doors, size_t door_count, const struct id *removed,
		size_t removed_count);
};

struct gateway {
	struct table_node by_name;
	struct core *core;
	struct gateway *next;
	struct gateway_record record;
	uint64_t connection; /* of its agent, 0 = none */
	bool joined; /* this connection has joined */
	char mode[16], agent[64], kernel[64], addresses[1024], problems[1024];
	int64_t lost_us;
	struct agent_link *link; /* Sync stream, NULL = none */
	struct grant *armed; /* desired state */
	struct grant_list pending; /* the agent does not know of them yet */
	struct grant_list sent; /* it has not acknowledged them yet, in order of sync_sequence */
	struct id *removed;
	size_t removed_count, removed_capacity;
	bool in_snapshot;
	uint64_t sync_sequence;
	struct loop_task flush;
	bool flush_posted;
	uint64_t live_grants, open_flows;
	unsigned generation; /* of the inventory under way */
	struct flow_entry *flows; /* open ones */
	struct flow_entry *closed_first, *closed_last; /* oldest first, through `next` alone */
	struct table keys; /* first grant of each key */
};

void gateways_init(struct core *core);
struct gateway *gateway_find(const struct core *core, const char *name);
struct gateway *gateway_load(struct core *core, const struct gateway_record *record);
/* Up: joined and its Sync stream runs. */
bool gateway_is_up(const struct gateway *gateway);
void gateway_arm(struct grant *grant);
void gateway_disarm(struct grant *grant);
void gateway_attach(struct gateway *gateway, struct agent_link *link);
void gateway_detach(struct gateway *gateway, const char *why);
void gateway_flush(struct gateway *gateway);
void gateway_applied(struct gateway *gateway, uint64_t sync_sequence, uint64_t kernel_us);
void gateways_fini(struct core *core);

/* ---- flows ---- */

struct flow_entry {
	struct table_node node;
	struct gateway *gateway;
	struct flow_entry *next, *previous; /* of the gateway */
	struct flow_record record;
	struct grant *grant; /* NULL = not known any more */
	unsigned generation; /* the inventory that saw it last */
	int64_t closed_mono_us;
};

/* Each adds what is new to the transaction and to memory; repeats add nothing (I5). */
void flow_opened(struct gateway *gateway, const struct id *grant, const struct flow *flow,
	int64_t at_us, bool inventory, struct store_txn *txn);
void flow_closed(struct gateway *gateway, const struct id *grant, const struct flow *flow,
	int64_t at_us, struct store_txn *txn);
void flows_inventory_end(struct gateway *gateway, struct store_txn *txn);
void flows_all_lost(struct gateway *gateway, const char *why, struct store_txn *txn);
void flow_load(struct core *core, const struct flow_record *record);
void flows_forget(struct gateway *gateway);
void flows_init(struct core *core);
void flows_fini(struct core *core);

/* ---- the core ---- */

struct core {
	struct loop *loop;
	const struct server_config *config;
	struct store *store;
	struct policy policy;
	struct principals principals;
	struct table gateways, grants, requests, sessions, flows;
	struct gateway *first_gateway, **gateway_end;
	bool stopping;
};

enum status core_init(struct core *core, struct loop *loop, const struct server_config *config,
	struct store *store, struct error *err);
void core_fini(struct core *core);
/* Entries begin here: time, kind, actor. */
void core_entry(struct entry *ret_entry, enum entry_kind kind, const char *actor);
/* A transaction for facts: tried again until it is on disk. NULL only when memory is out. */
struct store_txn *core_fact_txn(struct core *core);
/* Journals one fact without waiting. */
void core_fact(struct core *core, const struct entry *entry);
bool name_is_valid(const char *name);

#endif
