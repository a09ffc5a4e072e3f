/* Between the messages of agents.proto and the agent's own structs. What comes in is bounded and
 * checked here. */
#ifndef POSTERN_AGENT_WIRE_H
#define POSTERN_AGENT_WIRE_H

#include "agent/door.h"
#include "agent/reports.h"
#include "postern/v1/agents.pb-c.h"

/* Reads all but the grant's id. `froms` is room for message->n_remotes addresses, at most
 * DOOR_FROMS_MAX are used, and the door keeps pointing there. NULL, or why no agent can open this
 * door. */
const char *wire_read_door(
	const Postern__V1__Door *message, struct addr *froms, struct door *ret_door);
/* The connection to look for; false: there can be none such. */
bool wire_read_primary(const Postern__V1__Flow *message, struct tracked *ret_wanted);

struct wire_report {
	Postern__V1__Report message;
	Postern__V1__Flow flow;
	Postern__V1__ReplyTuple reply;
	char grant[ID_TEXT_SIZE], session[ID_TEXT_SIZE];
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
	char source[ADDR_TEXT_SIZE], destination[ADDR_TEXT_SIZE];
};
/* All but the failures. */
void wire_write_report(const struct report *report, int64_t now_us, struct wire_report *ret_wire);

/* The failures of the reports of one call as messages. */
struct wire_failures {
	Postern__V1__DoorFailure *messages, **pointers;
	char (*texts)[ID_TEXT_SIZE];
	size_t used;
};
bool wire_failures_init(struct wire_failures *wire, size_t count);
void wire_failures_fini(struct wire_failures *wire);
void wire_write_failures(
	struct wire_failures *wire, const struct report *report, Postern__V1__Report *message);

#endif
