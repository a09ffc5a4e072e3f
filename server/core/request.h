/* The steps from a request to its decision, for one grant (core_request) and for bundles. */
#ifndef POSTERN_SERVER_CORE_REQUEST_H
#define POSTERN_SERVER_CORE_REQUEST_H

#include "server/core/grant.h"
#include "server/policy/policy.h"

/* What was found out about a request, before it becomes a grant. */
struct examined {
	struct grant_record record; /* owns nothing */
	struct session *session;
	struct gateway *gateway;
	const struct protocol_record *protocol;
	struct policy_answer answer; /* its texts are the policy's: of this turn of the loop */
};

/* Completes the record from session, defaults and definitions, or says what is wrong with it. */
enum status request_examine(struct core *core, const struct grant_ask *ask,
	struct examined *ret_examined, struct error *err);
/* The longest lifetime that its grants get. */
uint64_t request_max_lifetime(const struct core *core, const struct principal *asker);
/* `count` more grants: most live ones, most a second. */
enum status request_check_quota(
	const struct core *core, const struct grant_ask *ask, size_t count, struct error *err);
/* What the rules say; when they allow it, the gateway must be up. */
enum status request_judge(struct core *core, struct examined *examined, struct error *err);
/* A grant in the books, live unless denied, with its external port, but not on disk. */
enum status request_make(struct core *core, const struct grant_ask *ask, struct examined *examined,
	struct grant **ret_grant, struct error *err);
void request_unmake(struct grant *grant);
/* A grant in no book, as what request_look_up() may fill. NULL: out of memory. */
struct grant *request_make_ghost(
	struct core *core, const struct grant_ask *ask, struct examined *examined);
/* Adds decision and row, and holds the grant until request_decided(). */
void request_add(struct grant *grant, const struct grant_ask *ask, const struct examined *examined,
	struct store_txn *txn);
/* Nothing of it is on disk: as if it had never been asked for. */
void request_withdraw(struct grant *grant);
void request_decided(struct grant *grant, const struct error *err);
/* Its id is of the past: the grant that has it is read, and answered in this one's place. */
void request_look_up(struct grant *grant);
bool request_is_same(
	const struct grant *grant, const struct grant_ask *ask, const struct grant_record *record);
/* Waits for a grant that was asked for before, or is answered at once. */
void request_join(struct grant *grant, const struct grant_ask *ask, struct waiter *waiter);
enum status request_used_for_another(const struct id *grant, struct error *err);

#endif
