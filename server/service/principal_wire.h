/* Principals and their scopes as wire messages, for the Policy service. */
#ifndef POSTERN_SERVER_SERVICE_PRINCIPAL_WIRE_H
#define POSTERN_SERVER_SERVICE_PRINCIPAL_WIRE_H

#include "postern/v1/policy.pb-c.h"
#include "server/core/core.h"

struct list_wire {
	char text[RECORD_LIST_SIZE];
	char *items[RECORD_LIST_SIZE / 2]; /* an item and its comma are two bytes at least */
};

struct principal_wire {
	Postern__V1__Principal message;
	struct list_wire gateways, clients, destinations, protocols;
};

/* The message points into `record` and `wire`, which must not move while it is in use. */
void principal_to_wire(
	const struct principal_record *record, uint64_t live_grants, struct principal_wire *wire);
/* Role, name and scope for the journal; what does not fit is cut. */
void principal_describe(const struct principal_record *record, char *text, size_t size);
/* Name, role and scope of a new one, checked; networks become canonical. Errors name the field and
 * the value. */
enum status principal_from_wire(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err);

#endif
