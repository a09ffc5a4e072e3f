/* link: postern_server */
/* A protocol definition that is registered: refused with a reason, or within all bounds, and told
 * again as it was asked for. */
#include "common/id.h"
#include "server/core/core.h"
#include "server/service/protocol_wire.h"
#include "tests/fuzz/message.h"

static void check_record(const struct protocol_record *record)
{
	struct protocol_record again = {0};
	struct protocol_wire wire;
	struct error err;
	check(name_is_valid(record->name) && record->owner[0] == '\0');
	check(record->transport == 6 || record->transport == 17);
	check(record->primary_port_count <= 16 && record->max_ports <= 1024);
	check(record->remote_scope <= REMOTE_PEER_NETWORK);
	for (size_t i = 0; i < record->primary_port_count; i++)
		check(record->primary_ports[i] > 0);
	protocol_to_wire(record, &wire);
	check(protocol_from_wire(&wire.message, &again, &err) == STATUS_OK);
	check(id_equal(&again.guid, &record->guid));
	check(again.primary_port_count == record->primary_port_count);
	check(again.max_ports == record->max_ports && again.remote_scope == record->remote_scope);
	check(again.low_ports == record->low_ports && again.shared == record->shared);
	check(strcmp(again.name, record->name) == 0 && again.transport == record->transport);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message = message_unpack(&postern__v1__protocol__descriptor, data, size);
	struct protocol_record record = {0};
	struct error err;
	if (!message)
		return 0;
	enum status status =
		protocol_from_wire((const Postern__V1__Protocol *)message, &record, &err);
	if (status)
		check_refusal(status, &err);
	else
		check_record(&record);
	message_free(message);
	return 0;
}
