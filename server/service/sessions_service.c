#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
#include "server/service/service.h"
#include "server/service/session_wire.h"

/* A call that waits for a session to open or to end. */
struct waiting_call {
	struct rpc_call *call;
	struct session_waiter waiter;
};

static void reply_session(struct rpc_call *call, const struct session *session)
{
	struct session_wire wire;
	session_to_wire(&session->record, session->live_grants, &wire);
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

/* Nobody gets the id: the session is not opened, or not kept. */
static void on_open_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	struct error err;
	if (why == STATUS_DEADLINE_EXCEEDED)
		error_reason(&err, why, REASON_DEADLINE,
			"the session was not open before the deadline: it will not be kept");
	else
		error_set(&err, why, "the caller went away");
	session_forget_waiter(&waiting->waiter);
	rpc_fail(waiting->call, &err);
	free(waiting);
}

/* A close is decided; only the gateway's acknowledgements may be missing. */
static void on_close_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	const struct session *session = waiting->waiter.session;
	struct error err;
	error_set(&err, why, "the session's end is under way: look at it again");
	if (why == STATUS_DEADLINE_EXCEEDED && session && session->stage == SESSION_CLOSED)
		reply_session(waiting->call, session);
	else
		rpc_fail(waiting->call, &err);
	session_forget_waiter(&waiting->waiter);
	free(waiting);
}

static struct waiting_call *waiting_new(struct rpc_call *call, void (*on_end)(void *, enum status))
{
	struct waiting_call *waiting = call_state_new(call, sizeof *waiting, on_end);
	if (!waiting)
		return NULL;
	waiting->call = call;
	waiting->waiter = (struct session_waiter){.done = on_answer, .arg = waiting};
	return waiting;
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
	struct waiting_call *waiting = waiting_new(data, on_open_end);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	copy_text(record.filter, sizeof record.filter, caller);
	enum status status = session_from_wire(core, input, filter, &record, &err);
	if (!status)
		status = check_quota(core, filter, &err);
	if (!status)
		status = session_open(
			core, &record, rpc_call_deadline(data), &waiting->waiter, &err);
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
	struct waiting_call *waiting = waiting_new(data, on_close_end);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	enum status status =
		find_own(SERVICES_OF(service, sessions), data, input->id, &session, &err);
	if (!status)
		status = session_close(
			session, rpc_call_principal(data)->name, &waiting->waiter, &err);
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
	if (session->stage != SESSION_OPEN ||
		(listing->caller->role == RPC_ROLE_FILTER &&
			strcmp(record->filter, listing->caller->name) != 0) ||
		(listing->input->gateway[0] &&
			strcmp(record->gateway, listing->input->gateway) != 0) ||
		(listing->client.family != ADDR_NONE &&
			!addr_equal(&record->client, &listing->client)))
		return;
	session_to_wire(record, session->live_grants, &wire);
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
