/* Grants: from the request to the end. grants/state.h has the states.
 *
 *   core_request ──on disk──▶ answered "decided"; first of its line? ──▶ armed ──▶ told ──▶
 *   installed, answered "installed" ──▶ grant_end: withdrawn, journalled, gone
 *
 * What the disk refuses has never happened. A reservation stops behind "decided" until it is
 * committed. Decisions about a grant that exists (struct grant_change) are made one at a time. */
#ifndef POSTERN_SERVER_CORE_GRANT_H
#define POSTERN_SERVER_CORE_GRANT_H

#include "server/core/core.h"
#include "server/fleet/sync.h"
#include "server/grants/external.h"
#include "server/grants/line.h"
#include "server/grants/state.h"

struct session;
struct waiter;

struct grant_timing {
	uint64_t decide_us, commit_us, push_us, kernel_us;
};

/* A decision about a grant on its way to the disk: what it will change of the record. */
struct grant_change {
	enum {
		CHANGE_NONE,
		CHANGE_END,
		CHANGE_CUT,
		CHANGE_RENEW,
		CHANGE_COMMIT,
		CHANGE_EXTERNAL
	} kind;
	uint8_t reason; /* END: enum end_reason */
	bool cut; /* END */
	bool clamped; /* RENEW */
	int64_t expires_us; /* RENEW, COMMIT */
	int64_t deadline_us; /* COMMIT: installed by then, or withdrawn */
	struct endpoint external; /* EXTERNAL */
};

struct grant {
	struct table_node by_id, by_request;
	struct core *core;
	struct grant_record record;
	struct gateway *gateway;
	struct principal *filter; /* whose quota it counts against, NULL = nobody's */
	struct session *session; /* that ends it; NULL = none */
	struct grant *session_next, *session_previous;
	struct grant *live_next, *live_previous; /* of the gateway, newest first */
	struct grant *ended_next; /* of struct facts */
	struct line_place line;
	struct wanted door, cut;
	struct external_place external;
	struct grant_change change;
	struct loop_timer timer;
	struct waiter *waiters;
	int64_t due_us; /* monotonic: the end of its lifetime */
	int64_t closes_us; /* when the kernel will have closed the door by itself: a little later */
	int64_t deadline_us; /* installed by then, or withdrawn */
	int64_t handed_us;
	struct grant_timing timing;
	char *cause; /* why the gateway refused it */
	bool waited; /* it missed its deadline behind another grant of its key */
	unsigned holds; /* transactions and reads under way, open flows */
	unsigned open_flows;
	unsigned externals_tried; /* ports that the gateway turned out to have in use */
	uint8_t wish; /* enum end_reason of an end that waits for a decision, 0 = none */
	char wish_actor[RECORD_NAME_SIZE];
	bool cut_wished; /* when it has ended */
	char cut_actor[RECORD_NAME_SIZE];
	bool lifetime_given; /* by the request */
	bool committed; /* its decision is on disk */
	bool ended, end_committed;
	bool doomed; /* the policy forbids it: it ends when a decision's fate is known */
	bool in_books, in_requests, is_live;
};

/* ---- asking ---- */

enum waiter_until {
	UNTIL_DECIDED,
	UNTIL_INSTALLED,
	UNTIL_CHANGED, /* the change under way is on disk */
	UNTIL_CLOSED, /* its end is on disk and the gateway has forgotten its door */
	UNTIL_CUT, /* and what is to be cut is cut */
	UNTIL_NEVER = UNTIL_CUT /* whatever is waited for: it will not come */
};

/* Someone who waits for a grant. `done` is called exactly once, unless waiter_leave() comes first;
 * the waiter may be freed in it. `err` has status 0 when what was waited for has come. */
typedef void (*waiter_cb)(void *arg, const struct grant *grant, const struct error *err);
struct waiter {
	struct waiter *next, *previous;
	struct grant *grant; /* NULL = does not wait */
	enum waiter_until until;
	waiter_cb done;
	void *arg;
};

struct grant_ask {
	struct grant_record record; /* what the caller gave; context and remotes borrowed */
	struct addr remotes[ENTRY_REMOTES_MAX]; /* for record.remotes */
	const char *protocol; /* name or GUID */
	struct principal *asker; /* NULL = no quota and no scope */
	bool is_admin, reserve;
	uint64_t reservation_ms; /* 0 = the server's default */
	enum waiter_until until;
	int64_t began_us, deadline_us; /* CLOCK_NEVER = the server's default */
};

/* STATUS_OK: `waiter` (zero-initialised but for done and arg) waits, or has been answered already,
 * inside this call. */
enum status core_request(
	struct core *core, const struct grant_ask *ask, struct waiter *waiter, struct error *err);
enum leaving { LEAVE_GONE, LEAVE_CANCELLED, LEAVE_DEADLINE };
/* The caller waits no more. Deadline: what is not installed is withdrawn, nothing stays open.
 * Cancelled: the same, as the filter's wish. Gone (a lost connection): a retry may come; the
 * deadline still holds. */
void waiter_leave(struct waiter *waiter, enum leaving why);

/* ---- change.c: decisions about a grant that exists; STATUS_OK: `waiter` is answered ---- */

/* Ends a grant on behalf of `actor`; `cut`: and its flows, also those of a grant that has ended.
 * The waiter hears when it is closed, or cut. ALREADY_ENDED otherwise. */
enum status core_cancel(struct core *core, struct grant *grant, enum end_reason reason,
	const char *actor, bool cut, struct waiter *waiter, struct error *err);
/* The same in pieces, for several at once: may it be ended by a decision now; its part of the
 * transaction; what became of it. */
bool change_is_free(const struct grant *grant);
bool change_is_about_time(uint8_t reason); /* an end that a renewal takes back */
void change_add_end(struct grant *grant, enum end_reason reason, const char *actor, bool cut,
	struct store_txn *txn);
/* The policy does not allow it any more: a fact, which travels with `facts` (NULL = alone), and so
 * is the cut of its flows. Behind the decision under way, if there is one. */
void change_end_by_policy(struct grant *grant, bool cut, const char *detail, struct facts *facts);
void change_decided(struct grant *grant, const struct error *err);
/* It ends lifetime_ms (0 = as it was granted) from now, never earlier than it would have. The
 * waiter hears when the gateway, if it is there, knows. */
enum status core_renew(struct grant *grant, uint64_t lifetime_ms, const char *actor,
	struct waiter *waiter, struct error *err);
/* Opens what was reserved. `waiter->until` is set. */
enum status core_commit(struct grant *grant, const char *actor, int64_t deadline_us,
	struct waiter *waiter, struct error *err);

/* Of a caller who waits for this; CLOCK_NEVER = the server's default. */
int64_t grant_deadline(const struct core *core, enum waiter_until until, int64_t deadline_us);

struct grant *grant_find(const struct core *core, const struct id *id);
/* By the request that asked for it; of this filter only. */
struct grant *grant_find_request(
	const struct core *core, const char *filter, const struct id *request_id);
uint64_t grant_left_ms(const struct grant *grant);

/* ---- facts ---- */

/* The kernel holds the door. */
void grant_installed(struct grant *grant, uint64_t kernel_us, struct facts *facts);
void grant_refused(struct grant *grant, const char *cause);
/* A program of the gateway has its external port: another one is tried, if that was the server's
 * choice. */
void grant_external_taken(struct grant *grant, const char *cause);
/* Its flows are cut. */
void grant_cut_done(struct grant *grant, struct facts *facts);
/* `flows` more connections were made. */
void grant_used(struct grant *grant, uint64_t flows, struct facts *facts);
/* The facts that ended these grants (linked by ended_next) are on disk. */
void grants_ended(struct grant *first, const struct error *err);
void grant_end(struct grant *grant, enum end_reason reason, const char *actor, const char *detail);
/* The agent has forgotten the door. */
void grant_door_gone(struct grant *grant);

void grant_hold(struct grant *grant);
void grant_release(struct grant *grant); /* may free it */

/* ---- for their neighbours ---- */

/* From the disk: live ones as they were, ended ones for the flows that name them. NULL: memory, or
 * no such gateway. */
struct grant *grant_load(struct core *core, const struct grant_record *record);
/* After everything was loaded: what is over ends now. */
void grants_settle(struct core *core);
void grants_init(struct core *core);
void grants_fini(struct core *core);
void grant_fill_entry(const struct grant *grant, enum entry_kind kind, struct entry *ret_entry);
/* Puts a grant into the books; NULL: out of memory. Takes over what the record owns on success. */
struct grant *grant_new(struct core *core, const struct grant_record *record,
	struct gateway *gateway, struct principal *filter);
bool grant_become_live(struct grant *grant, struct session *session); /* false: out of memory */
bool grant_enter_books(struct grant *grant); /* false: out of memory; leave them then */
void grant_leave_books(struct grant *grant);
/* If it is on disk and its turn, its door goes to the gateway. */
void grant_arm(struct grant *grant);
void grant_watch_clock(struct grant *grant);
/* The record as it is, or will be when the change under way is on disk. Owns nothing. */
struct grant_record grant_changed(const struct grant *grant);
void grant_put_row(const struct grant *grant, struct store_txn *txn);
void grant_add_ended(const struct grant *grant, enum end_reason reason, const char *actor,
	const char *detail, struct store_txn *txn);
/* The journal's part of an end that memory has: alone, or with other facts. */
void grant_journal_end(struct grant *grant, const char *actor, const char *detail);
void grant_journal_end_in(struct grant *grant, const char *detail, struct facts *facts);
/* Memory's part of an end, without the journal's. */
void grant_end_in_memory(struct grant *grant, enum end_reason reason);
void grant_end_is_on_disk(struct grant *grant);
void grant_apply_wish(struct grant *grant);
/* Cuts the flows of an ended grant, if that was wished for. */
void grant_apply_cut_wish(struct grant *grant);
/* Joins the line of its key. False: out of memory. */
bool grant_join_line(struct grant *grant);
/* The caller's deadline passed before the door was open. */
void grant_miss_deadline(struct grant *grant);
void grant_leave_line(struct grant *grant); /* the next one is armed */
/* Its end is on disk, and its door is out. */
bool grant_is_closed(const struct grant *grant);
void grant_check_gone(struct grant *grant);
void waiter_add(struct grant *grant, struct waiter *waiter);
/* Answers those who wait for this or less. */
void grant_answer(struct grant *grant, enum waiter_until reached, const struct error *err);
/* Answers those who wait for `least` to `most`. */
void grant_answer_range(struct grant *grant, enum waiter_until least, enum waiter_until most,
	const struct error *err);
struct waiter *grant_waiting(
	const struct grant *grant, enum waiter_until least, enum waiter_until most);

#endif
