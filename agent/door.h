/* A door: what the server wants the kernel to let through, and what the kernel holds of it. Plain
 * values, but for `froms`. */
#ifndef POSTERN_AGENT_DOOR_H
#define POSTERN_AGENT_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/id.h"

#define DOOR_FROMS_MAX 16
#define DOOR_PORTS_MAX 1024 /* of a range */

enum door_nat {
	DOOR_AS_IS,
	DOOR_SNAT, /* outbound: the flow leaves with `outside` as its source; port 0 = any */
	DOOR_DNAT /* inbound: what arrives for `outside` goes to `to` */
};

/* Outbound: from = client, to = remote. Inbound: from = remote, to = client and its port. The
 * forward chain sees a flow's first packet as from → to in both cases. */
struct door {
	struct id grant;
	struct addr from; /* family ADDR_NONE: anybody, or `froms` */
	const struct addr *froms; /* several; sorted; owned by whoever holds the door */
	size_t from_count;
	struct endpoint to;
	uint16_t to_port_last; /* a range: to.port to this one; 0 = one port */
	uint8_t transport; /* IPPROTO_TCP, IPPROTO_UDP */
	bool oneway; /* UDP without BIDIRECTIONAL: datagrams back to who opened it are dropped */
	uint8_t nat; /* enum door_nat */
	struct endpoint outside;
	uint64_t uses; /* flows it may still admit, 0 = unlimited */
	uint64_t timeout_ms;
	/* What the server said, for the books: */
	uint64_t max_connections, connections;
};

struct held_door {
	struct door door; /* uses: as it was added; timeout_ms: what is left */
	uint64_t counter; /* flows it has admitted since */
	/* A part of it is missing: somebody deleted it. Of the door only the grant and what the
	 * parts tell is set; adding the whole door makes it whole, and what it has admitted stays
	 * counted. */
	bool incomplete;
	bool expired; /* closed by its time; what is left of it is to be removed */
};

/* A door that could not be opened, and why; for the server. */
struct door_failure {
	struct id grant;
	bool external_taken; /* a program of this host has the external port */
	char cause[128];
};

#endif
