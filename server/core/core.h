/* The heart of posternd: what is live and what happens to it. Loop thread only.
 *
 * Who owns what. The core owns grants, sessions and gateways; a struct waiter belongs to whoever
 * waits. A grant is freed when its end is on disk, its gateway has forgotten its door, no flow of
 * it is open and nobody waits for it.
 *
 * Decisions and facts. A decision (a grant, a cancellation, a session's opening or end, an
 * administrator's act) goes to the journal first; memory, gateway and caller hear of it when it is
 * on disk, and if the disk refuses it nothing has happened (I1). A fact (a door was installed, a
 * flow was made, a lifetime is over) cannot be refused: memory changes at once and the store keeps
 * trying until it is on disk, facts in order; an agent's report is acknowledged only then (I5).
 * Facts only ever close doors.
 *
 * Everything here is rebuilt from the store at start (I7). */
#ifndef POSTERN_SERVER_CORE_CORE_H
#define POSTERN_SERVER_CORE_CORE_H

#include "common/loop.h"
#include "common/table.h"
#include "server/auth/principals.h"
#include "server/config.h"
#include "server/policy/protocols.h"
#include "server/store/store.h"

struct draft;
struct feeds;
struct gateway;
struct grant;
struct policy;
struct revisions;
struct worker;

#define CORE_LATER_MAX 4

struct core_later {
	struct store_txn *txn;
	store_done_cb done;
	void *arg;
};

struct core {
	struct loop *loop;
	const struct server_config *config;
	struct store *store;
	struct worker *worker;
	struct feeds *feeds;
	struct policy *policy; /* in force */
	struct revisions *revisions;
	struct draft *waiting_drafts;
	struct protocols protocols;
	struct principals principals;
	struct table gateways, grants, requests, sessions;
	struct gateway *first_gateway, **gateway_end;
	struct core_later later[CORE_LATER_MAX];
	unsigned later_count;
	struct loop_timer later_timer;
	bool stopping; /* nothing more goes to the store */
	bool broken; /* memory knows facts that cannot reach the disk any more */
};

/* Loads what is live; `store` is open. On failure core_fini() is still due. */
enum status core_init(struct core *core, struct loop *loop, const struct server_config *config,
	struct store *store, struct error *err);
/* The server listens: journals that, and what came to its end while it was down. */
void core_begin(struct core *core);
/* Journals the stop; afterwards no transaction begins. Waits for the policy that is being compiled.
 */
void core_stop(struct core *core);
/* After store_close(): frees everything. Accepts one that core_init() never saw. */
void core_fini(struct core *core);

/* Entries begin here: time, kind, actor. */
void core_entry(struct entry *ret_entry, enum entry_kind kind, const char *actor);

/* NULL: memory is out, the backlog is full (decisions) or the server is stopping. */
struct store_txn *core_decision(struct core *core);
struct store_txn *core_fact(struct core *core);
/* For a decision that got no transaction. */
enum status core_no_decision(struct error *err);

/* Transactions reach the disk in the order of these calls, but for core_submit_first(): it concerns
 * nothing that is older and passes those that wait for core_submit_later(). */
void core_submit(struct core *core, struct store_txn *txn, store_done_cb done, void *arg);
void core_submit_first(struct core *core, struct store_txn *txn, store_done_cb done, void *arg);
/* Nobody is in a hurry: it travels with the next transaction, or in a few milliseconds. Otherwise
 * its fsync would stand in the way of the next request. */
void core_submit_later(struct core *core, struct store_txn *txn, store_done_cb done, void *arg);

/* Several facts that reach the disk together, with those grants that they ended. */
struct facts {
	struct core *core;
	struct store_txn *txn;
	struct grant *ended;
	store_done_cb done;
	void *arg;
};
struct facts *facts_new(struct core *core); /* NULL as core_fact() */
/* Takes it. `in_no_hurry` as core_submit_later(). */
void facts_submit(struct facts *facts, bool in_no_hurry, store_done_cb done, void *arg);
/* Journals one fact; nobody waits for it. */
void core_note(struct core *core, const struct entry *entry);

bool name_is_valid(const char *name);
/* False: it was cut. */
bool copy_text(char *to, size_t size, const char *from);

#endif
