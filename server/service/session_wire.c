#include "server/service/session_wire.h"

#include "server/core/revision.h"
#include "server/fleet/gateway.h"
#include "server/service/service.h"

void session_to_wire(
	const struct session_record *record, uint64_t live_grants, struct session_wire *ret_wire)
{
	Postern__V1__Session *message = &ret_wire->message;
	postern__v1__session__init(message);
	id_format(&record->id, ret_wire->id);
	addr_format(&record->client, ret_wire->client);
	message->id = ret_wire->id;
	message->client = ret_wire->client;
	message->gateway = wire_text(record->gateway);
	message->user = wire_text(record->user);
	message->filter = wire_text(record->filter);
	message->protocol = wire_text(record->protocol);
	message->opened_us = record->opened_us;
	message->closed_us = record->closed_us;
	message->live_grants = live_grants;
	if (record->primary.transport) {
		flow_to_wire(&record->primary, &ret_wire->primary);
		message->primary = &ret_wire->primary.message;
	}
}

/* Only what names the connection: what else a flow has, the filter does not know. */
static enum status parse_primary(
	const Postern__V1__Flow *input, struct session_record *record, struct error *err)
{
	struct flow flow;
	if (!flow_from_wire(input, &flow) || flow.client.port == 0 || flow.remote.port == 0)
		return error_field(err, "primary",
			"primary: both addresses, both ports (1 to 65535) and the transport of the "
			"watched connection are needed");
	if (!addr_equal(&flow.client.addr, &record->client))
		return error_field(err, "primary",
			"primary: its client \"%.60s\" differs from the session's client",
			input->client);
	if (!addr_is_forwardable(&flow.remote.addr))
		return error_field(err, "primary",
			"primary: remote \"%.60s\" is not a unicast address that a gateway "
			"forwards",
			input->remote);
	if (flow.remote.addr.family != flow.client.addr.family)
		return error_field(err, "primary",
			"primary: client and remote must both be IPv4 or both be IPv6");
	record->primary = (struct flow){
		.client = flow.client, .remote = flow.remote, .transport = flow.transport};
	return STATUS_OK;
}

enum status session_from_wire(const struct core *core, const Postern__V1__SessionOpenRequest *input,
	const struct principal *filter, struct session_record *record, struct error *err)
{
	if (!copy_text(record->gateway, sizeof record->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	enum status status = scope_check_gateway(filter, record->gateway, err);
	if (status)
		return status;
	if (!gateway_find(core, record->gateway))
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %s: unknown: see `postern gateway list`", record->gateway);
	if (!addr_parse(input->client, &record->client) || !addr_is_forwardable(&record->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not a unicast address that a gateway forwards",
			input->client);
	if (!copy_text(record->user, sizeof record->user, input->user))
		return error_field(err, "user", "user: at most %zu bytes", sizeof record->user - 1);
	if (input->protocol[0]) {
		const struct protocol_record *protocol = core_find_protocol(core, input->protocol);
		if (!protocol)
			return error_field(err, "protocol",
				"protocol: \"%.60s\" is not registered: see `postern protocol "
				"list`",
				input->protocol);
		if (filter && !protocol_is_open_to(protocol, record->filter))
			return protocol_not_shared(protocol, err);
		copy_text(record->protocol, sizeof record->protocol, protocol->name);
	}
	if (input->primary) {
		status = parse_primary(input->primary, record, err);
		if (status)
			return status;
	}
	if (input->idle_limit_ms > 7ULL * 86400 * 1000)
		return error_field(err, "idle_limit_ms", "idle_limit_ms: at most 7 days");
	record->idle_limit_ms =
		input->idle_limit_ms ? input->idle_limit_ms : core->config->session_idle_limit_ms;
	return scope_check_session(filter, record, err);
}
