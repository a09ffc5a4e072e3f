/* What a protocol definition lets its grants name: remotes (bounce defence), low ports, ranges of
 * ports. Pure. */
#ifndef POSTERN_SERVER_POLICY_BOUNDS_H
#define POSTERN_SERVER_POLICY_BOUNDS_H

#include "common/error.h"
#include "server/store/record.h"

/* `grant` is completed; `primary` is its session's primary connection, NULL or without a transport
 * = there is none. Errors are INVALID_ARGUMENT and name the field. */
enum status bounds_check(const struct protocol_record *protocol, const struct flow *primary,
	const struct grant_record *grant, struct error *err);
const char *remote_scope_name(enum remote_scope scope); /* "any", "peer", "peer-network" */

#endif
