/* Several grants of one gateway, all or none: decided together, in one transaction, told to the
 * agent in one item. Afterwards each lives its own life, but for one thing: when the gateway
 * refuses one of them, or its deadline passes, the others end too. */
#ifndef POSTERN_SERVER_CORE_BUNDLE_H
#define POSTERN_SERVER_CORE_BUNDLE_H

#include "server/core/grant.h"

#define BUNDLE_MAX 64

struct bundle_waiter;

/* Called once, unless bundle_leave() comes first; the waiter may be freed in it, after
 * bundle_waiter_fini(). `err` has status 0 when all have come to what was
 * waited for; else it names the member, and no door of the bundle is open any more. */
typedef void (*bundle_cb)(void *arg, struct bundle_waiter *waiter, const struct error *err);

struct bundle_member {
	struct waiter waiter;
	struct bundle_waiter *owner;
	struct grant *grant; /* held; NULL = there is none */
	struct error err;
};

/* Someone who waits for all of them. Zero-initialised but for done and arg. */
struct bundle_waiter {
	struct bundle_member members[BUNDLE_MAX];
	size_t count, open;
	struct id bundle;
	bool left;
	bool closing; /* it has failed: until no door of it is open */
	bundle_cb done;
	void *arg;
};

/* `asks` (1 to BUNDLE_MAX) are of one caller; their request ids are the bundle's affair. STATUS_OK:
 * `waiter` waits, or has been answered inside this call. Errors name the member. */
enum status core_request_bundle(struct core *core, const struct id *bundle,
	const struct grant_ask *asks, size_t count, struct bundle_waiter *waiter,
	struct error *err);
/* Ends those members of `filter`'s bundle that live, in one transaction; `cut` as core_cancel().
 * The waiter's members are those. */
enum status core_cancel_bundle(struct core *core, const struct id *bundle, const char *filter,
	enum end_reason reason, const char *actor, bool cut, struct bundle_waiter *waiter,
	struct error *err);
/* "remotes: ..." of member 3 becomes "grants[3].remotes: ...". */
void bundle_name_member(struct error *err, size_t index);
/* The caller waits no more: waiter_leave() for each. */
void bundle_leave(struct bundle_waiter *waiter, enum leaving why);
void bundle_waiter_fini(struct bundle_waiter *waiter); /* lets go of the grants */

/* A member has failed, and memory has its end: the others end, in the same transaction, so that no
 * crash comes in between. */
void bundle_end_failed(struct grant *grant, const char *detail);

#endif
