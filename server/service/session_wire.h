/* Sessions as wire messages, for the Sessions service. */
#ifndef POSTERN_SERVER_SERVICE_SESSION_WIRE_H
#define POSTERN_SERVER_SERVICE_SESSION_WIRE_H

#include "postern/v1/sessions.pb-c.h"
#include "server/core/core.h"
#include "server/journal/wire.h"

struct session_wire {
	Postern__V1__Session message;
	struct flow_wire primary;
	char id[ID_TEXT_SIZE], client[ADDR_TEXT_SIZE];
};

/* The message points into `record` and `ret_wire`, which must not move while it is in use. */
void session_to_wire(
	const struct session_record *record, uint64_t live_grants, struct session_wire *ret_wire);
/* What is asked for, checked against the filter's scope (`filter` NULL: an administrator's), into a
 * record that has id and filter. Errors name the field and the value. */
enum status session_from_wire(const struct core *core, const Postern__V1__SessionOpenRequest *input,
	const struct principal *filter, struct session_record *record, struct error *err);

#endif
