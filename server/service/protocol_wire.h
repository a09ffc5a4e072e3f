/* Protocol definitions as wire messages, for the Policy service. */
#ifndef POSTERN_SERVER_SERVICE_PROTOCOL_WIRE_H
#define POSTERN_SERVER_SERVICE_PROTOCOL_WIRE_H

#include "common/error.h"
#include "postern/v1/policy.pb-c.h"
#include "server/store/record.h"

struct protocol_wire {
	Postern__V1__Protocol message;
	char guid[ID_TEXT_SIZE];
	uint32_t ports[16];
};

/* The message points into `record` and `wire`, which must not move while it is in use. */
void protocol_to_wire(const struct protocol_record *record, struct protocol_wire *wire);
/* All but its owner, into a zeroed record. Without a GUID it gets a new one. Errors name the field
 * and the value. */
enum status protocol_from_wire(
	const Postern__V1__Protocol *input, struct protocol_record *record, struct error *err);

#endif
