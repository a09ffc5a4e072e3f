#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/service/service.h"

struct session_wire {
	Postern__V1__Session message;
	struct flow_wire primary;
	char id[ID_TEXT_SIZE], client[ADDR_TEXT_SIZE];
};

static void to_wire(
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

static void on_done(void *arg, const struct session_record *session, const struct error *err)
{
	struct rpc_call *call = arg;
	struct session_wire wire;
	if (err->status) {
		rpc_fail(call, err);
		return;
	}
	to_wire(session, 0, &wire);
	rpc_reply(call, &wire.message.base);
}

static enum status parse(const struct core *core, const Postern__V1__SessionOpenRequest *input,
	struct session_record *record, struct error *err)
{
	if (!copy_text(record->gateway, sizeof record->gateway, input->gateway) ||
		!gateway_find(core, record->gateway))
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %.60s: unknown: see `postern gateway list`", input->gateway);
	if (!addr_parse(input->client, &record->client) || !addr_is_forwardable(&record->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not a unicast address that a gateway forwards",
			input->client);
	if (!copy_text(record->user, sizeof record->user, input->user))
		return error_field(err, "user", "user: at most %zu bytes", sizeof record->user - 1);
	if (input->protocol[0]) {
		const struct protocol_record *protocol =
			policy_find_protocol(&core->policy, input->protocol);
		if (!protocol)
			return error_field(err, "protocol",
				"protocol: \"%.60s\" is not registered: see `postern protocol "
				"list`",
				input->protocol);
		copy_text(record->protocol, sizeof record->protocol, protocol->name);
	}
	if (input->primary && !flow_from_wire(input->primary, &record->primary))
		return error_field(err, "primary",
			"primary: addresses, ports and transport of the watched connection are "
			"needed");
	if (input->idle_limit_ms > 7ULL * 86400 * 1000)
		return error_field(err, "idle_limit_ms", "idle_limit_ms: at most 7 days");
	record->idle_limit_ms =
		input->idle_limit_ms ? input->idle_limit_ms : core->config->session_idle_limit_ms;
	return STATUS_OK;
}

static void handle_open(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionOpenRequest *input, Postern__V1__Session_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, sessions);
	struct core *core = services->core;
	const struct rpc_principal *caller = rpc_call_principal(data);
	struct session_record record = {.id = id_new()};
	struct error err = {0};
	(void)closure;
	copy_text(record.filter, sizeof record.filter, caller->name);
	enum status status = parse(core, input, &record, &err);
	struct principal *principal = principals_find(&core->principals, caller->name);
	if (!status && caller->role == RPC_ROLE_FILTER && principal &&
		!principal_covers(principal, record.gateway))
		status = error_reason(&err, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE,
			"filter %s may not open sessions on gateway %s", caller->name,
			record.gateway);
	if (!status) {
		struct entry now;
		core_entry(&now, ENTRY_SESSION_OPENED, "");
		record.opened_us = now.time_us;
		status = session_open(core, &record, on_done, data, &err);
	}
	if (status)
		rpc_fail(data, &err);
}

static void handle_close(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionCloseRequest *input, Postern__V1__Session_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, sessions);
	const struct rpc_principal *caller = rpc_call_principal(data);
	struct session *session = NULL;
	struct error err = {0};
	struct id id;
	(void)closure;
	if (id_parse(input->id, &id))
		session = session_find(services->core, &id);
	else
		error_field(&err, "id", "id: \"%.60s\" is not a session's id (UUID)", input->id);
	if (!err.status &&
		(!session || session->closing || !session->committed ||
			(caller->role == RPC_ROLE_FILTER &&
				strcmp(session->record.filter, caller->name) != 0)))
		error_set(&err, STATUS_NOT_FOUND, "no open session of yours has this id");
	if (!err.status)
		(void)session_close(session, caller->name, on_done, data, &err);
	if (err.status)
		rpc_fail(data, &err);
}

struct listing {
	struct outbox *outbox;
	const struct rpc_principal *caller;
	const Postern__V1__SessionListRequest *input;
	struct addr client;
};

static void list_one(struct table_node *node, void *arg)
{
	const struct session *session = TABLE_OWNER(node, struct session, by_id);
	const struct listing *listing = arg;
	const struct session_record *record = &session->record;
	struct session_wire wire;
	if (!session->committed || session->closing ||
		(listing->caller->role == RPC_ROLE_FILTER &&
			strcmp(record->filter, listing->caller->name) != 0) ||
		(listing->input->gateway[0] &&
			strcmp(record->gateway, listing->input->gateway) != 0) ||
		(listing->client.family != ADDR_NONE &&
			!addr_equal(&record->client, &listing->client)))
		return;
	to_wire(record, session->live_grants, &wire);
	outbox_add(listing->outbox, &wire.message.base);
}

static void handle_list(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionListRequest *input, Postern__V1__Session_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, sessions);
	struct listing listing = {.caller = rpc_call_principal(data), .input = input};
	(void)closure;
	if (input->client[0] && !addr_parse(input->client, &listing.client)) {
		struct error err;
		error_field(&err, "client", "client: \"%.60s\" is not an IPv4 or IPv6 address",
			input->client);
		rpc_fail(data, &err);
		return;
	}
	listing.outbox = outbox_new(data);
	if (!listing.outbox)
		return;
	table_each(&services->core->sessions, list_one, &listing);
	outbox_send(listing.outbox);
}

void sessions_service_init(struct services *services)
{
	Postern__V1__Sessions_Service service = POSTERN__V1__SESSIONS__INIT(handle_);
	services->sessions = service;
}
