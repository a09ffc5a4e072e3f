/* A door: one element of the kernel's maps, as wanted by the server and as held by the kernel.
 * Plain values. */
#ifndef POSTERN_AGENT_DOOR_H
#define POSTERN_AGENT_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/id.h"

struct door {
	struct id grant;
	struct addr client;
	struct endpoint remote;
	uint8_t transport; /* IPPROTO_TCP, IPPROTO_UDP */
	bool oneway; /* UDP without BIDIRECTIONAL: the remote's datagrams are dropped */
	uint64_t uses; /* flows it may still admit, 0 = unlimited */
	uint64_t timeout_ms;
	/* What the server said, for the books: */
	uint64_t max_connections, connections;
};

struct held_door {
	struct door door; /* uses: as it was added */
	uint64_t counter; /* flows it has admitted since */
};

/* A door that could not be opened, and why; for the server. */
struct door_failure {
	struct id grant;
	char cause[128];
};

#endif
