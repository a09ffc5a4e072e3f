/* A grant's door as its agent is told of it. */
#ifndef POSTERN_SERVER_SERVICE_DOOR_WIRE_H
#define POSTERN_SERVER_SERVICE_DOOR_WIRE_H

#include "postern/v1/agents.pb-c.h"
#include "server/journal/wire.h"
#include "server/store/record.h"

struct door_wire {
	Postern__V1__Door message;
	char grant[ID_TEXT_SIZE];
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
	struct remotes_wire remotes;
};

/* The message points into `ret_wire`, which must not move while it is in use. */
void door_to_wire(const struct grant_record *record, uint64_t left_ms, struct door_wire *ret_wire);

#endif
