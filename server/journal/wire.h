/* Journal entries and flows as wire messages, without allocation: for the RPC services. */
#ifndef POSTERN_SERVER_JOURNAL_WIRE_H
#define POSTERN_SERVER_JOURNAL_WIRE_H

#include "postern/v1/types.pb-c.h"
#include "server/journal/entry.h"

/* Several addresses as a repeated field. */
struct remotes_wire {
	char *pointers[ENTRY_REMOTES_MAX];
	char texts[ENTRY_REMOTES_MAX][ADDR_TEXT_SIZE];
};

struct flow_wire {
	Postern__V1__Flow message;
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
};

struct entry_wire {
	Postern__V1__Entry message;
	struct flow_wire flow;
	char session[ID_TEXT_SIZE], grant[ID_TEXT_SIZE], request_id[ID_TEXT_SIZE];
	char bundle[ID_TEXT_SIZE];
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
	struct remotes_wire remotes;
};

/* The message points into `entry` and `ret_wire`, which must not move while it is in use. */
void entry_to_wire(const struct entry *entry, struct entry_wire *ret_wire);
/* At most ENTRY_REMOTES_MAX; returns how many. */
size_t remotes_to_wire(const struct addr *remotes, size_t count, struct remotes_wire *ret_wire);
void flow_to_wire(const struct flow *flow, struct flow_wire *ret_wire);
/* False (and nothing written) when an address, port or transport is not one. */
bool flow_from_wire(const Postern__V1__Flow *message, struct flow *ret_flow);

#endif
