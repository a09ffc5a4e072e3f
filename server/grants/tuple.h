/* A flow as conntrack tells of it, and as the journal does: pure. Conntrack knows who opened it
 * (original direction) and, when the gateway translates addresses, what the other direction looks
 * like; the journal speaks of the client and the remote, whoever of them opened it. */
#ifndef POSTERN_SERVER_GRANTS_TUPLE_H
#define POSTERN_SERVER_GRANTS_TUPLE_H

#include <stdbool.h>

#include "server/journal/entry.h"

struct told_flow {
	struct flow flow; /* client = who opened it, remote = whom to; figures likewise */
	bool translated; /* the two below are known */
	struct endpoint reply_source, reply_destination;
};

struct flow flow_turn(const struct told_flow *told, bool inbound);

#endif
