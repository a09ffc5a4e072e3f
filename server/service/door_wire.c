#include "server/service/door_wire.h"

void door_to_wire(const struct grant_record *record, uint64_t left_ms, struct door_wire *ret_wire)
{
	Postern__V1__Door *message = &ret_wire->message;
	postern__v1__door__init(message);
	id_format(&record->id, ret_wire->grant);
	addr_format(&record->client, ret_wire->client);
	addr_format(&record->remote.addr, ret_wire->remote);
	addr_format(&record->external.addr, ret_wire->external);
	message->grant = ret_wire->grant;
	message->client = ret_wire->client;
	message->remote = ret_wire->remote;
	message->remote_port = record->remote.port;
	message->transport = (Postern__V1__Transport)record->transport;
	message->max_connections = record->max_connections;
	message->connections = record->connections;
	message->remaining_ms = left_ms;
	message->flags = record->flags;
	message->direction = record->inbound ? POSTERN__V1__DIRECTION__DIRECTION_INBOUND
					     : POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND;
	message->external = ret_wire->external;
	message->external_port = record->external.port;
	message->client_port = record->client_port;
	message->remote_port_last = record->remote_port_last;
	message->n_remotes =
		remotes_to_wire(record->remotes, record->remote_count, &ret_wire->remotes);
	message->remotes = ret_wire->remotes.pointers;
}
