#include "server/service/protocol_wire.h"

#include "server/document/document.h"
#include "server/service/service.h"

#define PORTS_MAX 1024 /* of a range */

void protocol_to_wire(const struct protocol_record *record, struct protocol_wire *wire)
{
	postern__v1__protocol__init(&wire->message);
	id_format(&record->guid, wire->guid);
	wire->message.guid = wire->guid;
	wire->message.name = wire_text(record->name);
	wire->message.transport = (Postern__V1__Transport)record->transport;
	wire->message.owner = wire_text(record->owner);
	wire->message.primary_ports = wire->ports;
	wire->message.n_primary_ports = record->primary_port_count;
	wire->message.shared = record->shared;
	wire->message.remote_scope = (Postern__V1__RemoteScope)record->remote_scope;
	wire->message.low_ports = record->low_ports;
	wire->message.max_ports = record->max_ports;
	for (size_t i = 0; i < record->primary_port_count; i++)
		wire->ports[i] = record->primary_ports[i];
	if (!record->secondary)
		return;
	wire->message.secondary_ports = (char **)(uintptr_t)record->secondary->port_texts.items;
	wire->message.n_secondary_ports = record->secondary->port_texts.count;
	wire->message.secondary_addresses =
		(char **)(uintptr_t)record->secondary->address_texts.items;
	wire->message.n_secondary_addresses = record->secondary->address_texts.count;
}

/* What grants of the protocol may name: policy/bounds.h holds them to it. */
static enum status parse_bounds(
	const Postern__V1__Protocol *input, struct protocol_record *record, struct error *err)
{
	if (input->remote_scope < POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY ||
		input->remote_scope > POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER_NETWORK)
		return error_field(err, "remote_scope",
			"remote_scope: %d is not one: 0 (any), 1 (peer) or 2 (peer's network)",
			(int)input->remote_scope);
	if (input->max_ports > PORTS_MAX)
		return error_field(
			err, "max_ports", "max_ports: %u: at most %d", input->max_ports, PORTS_MAX);
	record->shared = input->shared;
	record->remote_scope = (uint8_t)input->remote_scope;
	record->low_ports = input->low_ports;
	record->max_ports = (uint16_t)input->max_ports;
	return STATUS_OK;
}

enum status protocol_from_wire(
	const Postern__V1__Protocol *input, struct protocol_record *record, struct error *err)
{
	if (!name_is_valid(input->name))
		return error_field(
			err, "name", "name: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -", input->name);
	record->guid = id_new();
	if (input->guid[0] && !id_parse(input->guid, &record->guid))
		return error_field(err, "guid", "guid: \"%.60s\" is not a UUID", input->guid);
	if (input->transport != 6 && input->transport != 17)
		return error_field(err, "transport", "transport: tcp or udp");
	if (input->n_primary_ports > sizeof record->primary_ports / sizeof *record->primary_ports)
		return error_field(err, "primary_ports", "primary_ports: at most %zu",
			sizeof record->primary_ports / sizeof *record->primary_ports);
	for (size_t i = 0; i < input->n_primary_ports; i++) {
		if (input->primary_ports[i] == 0 || input->primary_ports[i] > UINT16_MAX)
			return error_field(err, "primary_ports", "primary_ports: %u is not a port",
				input->primary_ports[i]);
		record->primary_ports[record->primary_port_count++] =
			(uint16_t)input->primary_ports[i];
	}
	copy_text(record->name, sizeof record->name, input->name);
	record->transport = (uint8_t)input->transport;
	return parse_bounds(input, record, err);
}
