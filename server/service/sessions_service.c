#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
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

/* A call that waits for a session to open or to end. */
struct waiting_call {
	struct rpc_call *call;
	struct session_waiter waiter;
	struct session *session; /* of a close */
};

static void reply_session(struct rpc_call *call, const struct session *session)
{
	struct session_wire wire;
	to_wire(&session->record, session->live_grants, &wire);
	rpc_reply(call, &wire.message.base);
}

static void on_answer(void *arg, const struct session *session, const struct error *err)
{
	struct waiting_call *waiting = arg;
	if (err->status)
		rpc_fail(waiting->call, err);
	else
		reply_session(waiting->call, session);
	free(waiting);
}

/* A close is decided; only the gateway's acknowledgements may be missing. */
static void on_close_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	struct error err;
	error_set(&err, why, "the session's end is under way: look at it again");
	session_forget_waiter(waiting->session, &waiting->waiter);
	if (why == STATUS_DEADLINE_EXCEEDED && waiting->session->closed)
		reply_session(waiting->call, waiting->session);
	else
		rpc_fail(waiting->call, &err);
	free(waiting);
}

static struct waiting_call *waiting_new(struct rpc_call *call)
{
	struct waiting_call *waiting = calloc(1, sizeof *waiting);
	if (!waiting) {
		fail_without_memory(call);
		return NULL;
	}
	waiting->call = call;
	waiting->waiter = (struct session_waiter){.done = on_answer, .arg = waiting};
	return waiting;
}

static enum status parse(const struct core *core, const Postern__V1__SessionOpenRequest *input,
	const struct principal *filter, struct session_record *record, struct error *err)
{
	if (!copy_text(record->gateway, sizeof record->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (filter && !principal_covers(filter, record->gateway))
		return error_reason(err, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE,
			"filter %s may not open sessions on gateway %s", filter->record.name,
			record->gateway);
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

static enum status check_quota(
	const struct core *core, const struct principal *filter, struct error *err)
{
	uint64_t most = core->config->max_open_sessions_per_filter;
	if (!filter || filter->open_sessions < most)
		return STATUS_OK;
	return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
		"filter %s has %llu open sessions, the limit: close some", filter->record.name,
		(unsigned long long)most);
}

static void handle_open(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionOpenRequest *input, Postern__V1__Session_Closure closure,
	void *data)
{
	struct core *core = SERVICES_OF(service, sessions)->core;
	const char *caller = rpc_call_principal(data)->name;
	struct principal *filter =
		is_admin(data) ? NULL : principals_find(&core->principals, caller);
	struct session_record record = {.id = id_new(), .opened_us = clock_real_us()};
	struct waiting_call *waiting = waiting_new(data);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	copy_text(record.filter, sizeof record.filter, caller);
	enum status status = parse(core, input, filter, &record, &err);
	if (!status)
		status = check_quota(core, filter, &err);
	if (!status)
		status = session_open(core, &record, &waiting->waiter, &err);
	if (!status)
		return;
	rpc_fail(data, &err);
	free(waiting);
}

static enum status find_own(struct services *services, const struct rpc_call *call,
	const char *text, struct session **ret_session, struct error *err)
{
	const struct rpc_principal *caller = rpc_call_principal(call);
	struct id id;
	if (!id_parse(text, &id))
		return error_field(err, "id", "id: \"%.60s\" is not a session's id (UUID)", text);
	struct session *session = session_find(services->core, &id);
	if (!session ||
		(caller->role == RPC_ROLE_FILTER &&
			strcmp(session->record.filter, caller->name) != 0))
		return error_set(err, STATUS_NOT_FOUND, "no open session of yours has this id");
	*ret_session = session;
	return STATUS_OK;
}

static void handle_close(Postern__V1__Sessions_Service *service,
	const Postern__V1__SessionCloseRequest *input, Postern__V1__Session_Closure closure,
	void *data)
{
	struct session *session = NULL;
	struct waiting_call *waiting = waiting_new(data);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	enum status status =
		find_own(SERVICES_OF(service, sessions), data, input->id, &session, &err);
	if (!status) {
		waiting->session = session;
		rpc_on_end(data, on_close_end, waiting);
		status = session_close(
			session, rpc_call_principal(data)->name, &waiting->waiter, &err);
	}
	if (!status)
		return;
	rpc_fail(data, &err);
	free(waiting);
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
