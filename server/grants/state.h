/* The states of a grant, what may follow what, and what is wrong with a request: pure.
 *
 *   request ──▶ DENIED
 *      ├──────▶ RESERVED ──▶ PENDING (committed), EXPIRED, CANCELLED
 *      ▼
 *   PENDING ──▶ ACTIVE ──▶ USED        all its connections were made
 *      │          ├──────▶ EXPIRED     its time is over
 *      │          └──────▶ CANCELLED   by its filter, an operator, its session's end
 *      ├────────▶ EXPIRED, CANCELLED, USED (a flow may be reported before the acknowledgement)
 *      └────────▶ FAILED               the gateway refused it, or the caller's deadline passed
 * first
 */
#ifndef POSTERN_SERVER_GRANTS_STATE_H
#define POSTERN_SERVER_GRANTS_STATE_H

#include <stdbool.h>

#include "common/error.h"
#include "server/store/record.h"

enum grant_state { /* GrantState of types.proto: never renumber */
	GRANT_PENDING = 1,
	GRANT_ACTIVE = 2,
	GRANT_USED = 3,
	GRANT_EXPIRED = 4,
	GRANT_CANCELLED = 5,
	GRANT_FAILED = 6,
	GRANT_DENIED = 7,
	GRANT_RESERVED = 8,
};

enum end_reason { /* EndReason of types.proto: never renumber */
	END_USED_UP = 1,
	END_UNUSED_TIMEOUT = 2,
	END_LIFETIME = 3,
	END_CANCELLED_BY_FILTER = 4,
	END_SESSION_ENDED = 5,
	END_REVOKED_BY_OPERATOR = 6,
	END_POLICY_CHANGED = 7,
	END_GATEWAY_REFUSED = 8,
	END_DEADLINE_MISSED = 9,
	END_DENIED_PROTOCOL_RULES = 10,
	END_DENIED_SITE_AND_CONTENT_RULES = 11,
	END_RESERVATION_TIMEOUT = 12,
	END_BUNDLE_FAILED = 13,
};

enum grant_flag { /* GrantFlag of types.proto: never renumber */
	GRANT_ADDRESS_BASED = 1,
	GRANT_ALLOW_MULTIPLE = 2,
	GRANT_TIMEOUT = 4,
	GRANT_NO_KERNEL_MODE = 8,
	GRANT_BIDIRECTIONAL = 16,
	GRANT_ALL_FLAGS = 31,
};

bool grant_is_live(enum grant_state state);
bool grant_may_become(enum grant_state from, enum grant_state to);
/* The state that an end for this reason leads to. */
enum grant_state grant_end_state(enum end_reason reason);
const char *end_reason_name(enum end_reason reason); /* "used-up" */
const char *grant_state_name(enum grant_state state); /* "active" */

struct grant_limits {
	uint64_t default_lifetime_ms, max_lifetime_ms, unused_timeout_ms;
};
/* Checks what was asked (addresses, ports, transport, flags) and completes lifetime and
 * max_connections; sorts `remotes` in place. Errors name the field. */
enum status grant_complete(
	struct grant_record *grant, const struct grant_limits *limits, struct error *err);
/* `asked_ms` 0 = the default. Clamped: a longer one was asked for. */
uint64_t grant_lifetime(
	uint32_t flags, uint64_t asked_ms, const struct grant_limits *limits, bool *ret_clamped);
/* When a grant that is renewed now ends: never earlier than it would have. `asked_ms` 0 = the
 * lifetime that it was granted with. */
int64_t grant_renewed_until(const struct grant_record *grant, const struct grant_limits *limits,
	uint64_t asked_ms, int64_t now_us, bool *ret_clamped);
/* Does `asked`, completed, ask for the same thing as the grant that its request id belongs to?
 * Without a lifetime of its own it takes that of the grant: the server's default may have changed
 * in between. */
bool grant_same_request(
	const struct grant_record *known, const struct grant_record *asked, bool lifetime_given);
/* STATUS_OK when the record's state is an answer to "allow this": it is live, or was. Otherwise why
 * not. */
enum status grant_verdict(const struct grant_record *grant, struct error *err);
/* The invariant of a record: NULL, or what is wrong with it. */
const char *grant_flaw(const struct grant_record *grant);

#endif
