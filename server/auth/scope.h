/* What a filter may ask for: gateways, clients, destinations, protocols, and how often. An empty
 * list means all. Refusals are OUT_OF_SCOPE or QUOTA and name the limit and its value. */
#ifndef POSTERN_SERVER_AUTH_SCOPE_H
#define POSTERN_SERVER_AUTH_SCOPE_H

#include <stdint.h>

#include "common/error.h"
#include "server/policy/network.h"

struct grant_record;
struct principal;
struct principal_record;
struct session_record;

#define SCOPE_MAX_RATE 1000000 /* grants a second: far above what any disk takes */

/* Compiled once, when the principal is loaded or added. */
struct scope {
	struct networks clients, destinations;
	uint64_t level; /* of the bucket, in millionths of a grant */
	int64_t filled_us; /* CLOCK_MONOTONIC: when that was so */
};

/* False: out of memory. What cannot be parsed (a damaged row) is logged and covers nothing. */
bool scope_compile(const struct principal_record *record, struct scope *ret_scope);
void scope_fini(struct scope *scope);

/* Each accepts NULL: an administrator, who may ask for everything. */
enum status scope_check_gateway(
	const struct principal *principal, const char *gateway, struct error *err);
/* Client, protocol and remotes of a completed request. */
enum status scope_check_grant(
	const struct principal *principal, const struct grant_record *grant, struct error *err);
enum status scope_check_session(
	const struct principal *principal, const struct session_record *session, struct error *err);
/* Takes `count` grants out of this second's; all or none. A second's worth may be taken at once.
 * `most` a second, or its own limit if that is tighter; 0 = only that. */
enum status scope_take(struct principal *principal, uint64_t most, uint64_t count, int64_t now_us,
	struct error *err);
/* The longest lifetime that it may get: the server's, or its own if that is shorter. */
uint64_t scope_max_lifetime(const struct principal *principal, uint64_t server_max_ms);

#endif
