#include <stdio.h>
#include <string.h>

#include "client/lib/internal.h"
#include "postern/v1/sessions.pb-c.h"

static enum status read_session(
	const ProtobufCMessage *reply, struct postern_session *ret_session, struct error *err)
{
	const Postern__V1__Session *session = (const Postern__V1__Session *)reply;

	if (!session || !*session->id || strlen(session->id) >= sizeof(ret_session->id))
		return error_set(err, STATUS_INTERNAL, "the server's answer names no session");
	snprintf(ret_session->id, sizeof(ret_session->id), "%s", session->id);
	return STATUS_OK;
}

static void on_answer(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	const struct call_spec *spec = call_spec_of(call);
	struct postern_session session = {0};
	struct postern_error told;
	struct error outcome = *err;

	if (outcome.status == STATUS_OK)
		read_session(reply, &session, &outcome);
	error_publish(&outcome, &told);
	if (spec->on_session)
		spec->on_session(spec->arg, told.status == POSTERN_OK ? &session : NULL, &told);
}

static enum status check_open(const struct postern_session_request *request, struct error *err)
{
	const struct postern_connection *primary = request->primary;

	if (!request->gateway)
		return error_field(err, "gateway", "a session needs the name of its gateway");
	if (!request->client)
		return error_field(err, "client", "a session needs the address of its client");
	if (!primary)
		return STATUS_OK;
	if (!primary->client || !primary->remote)
		return error_field(err, "primary", "a primary connection needs both its addresses");
	if (primary->transport != POSTERN_TCP && primary->transport != POSTERN_UDP)
		return error_field(err, "primary", "transport %d is neither TCP nor UDP",
			(int)primary->transport);
	return STATUS_OK;
}

enum postern_status postern_session_open_async(struct postern *postern,
	const struct postern_session_request *request, postern_session_cb cb, void *arg,
	struct postern_error *ret_err)
{
	Postern__V1__SessionOpenRequest message = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;
	struct call_spec spec = {
		.service = &postern__v1__sessions__descriptor,
		.method = "Open",
		.request = &message.base,
		.deadline_ms = request->deadline_ms,
		.done = on_answer,
		.on_session = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (check_open(request, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	message.gateway = text_or_empty(request->gateway);
	message.client = text_or_empty(request->client);
	message.user = text_or_empty(request->user);
	message.protocol = text_or_empty(request->protocol);
	if (request->primary) {
		flow.client = text_or_empty(request->primary->client);
		flow.client_port = request->primary->client_port;
		flow.remote = text_or_empty(request->primary->remote);
		flow.remote_port = request->primary->remote_port;
		flow.transport = (Postern__V1__Transport)request->primary->transport;
		message.primary = &flow;
	}
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_session_close_async(struct postern *postern, const char *session,
	postern_session_cb cb, void *arg, struct postern_error *ret_err)
{
	Postern__V1__SessionCloseRequest message = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	struct call_spec spec = {
		.service = &postern__v1__sessions__descriptor,
		.method = "Close",
		.request = &message.base,
		.done = on_answer,
		.on_session = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (!session) {
		error_field(&err, "session", "no session given");
		return error_give(&err, ret_err);
	}
	message.id = text_or_empty(session);
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_session_open(struct postern *postern,
	const struct postern_session_request *request, struct postern_session *ret_session,
	struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_session_open_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_session = ret_session;
	status = postern_session_open_async(postern, request, waiter_done_session, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_session_close(
	struct postern *postern, const char *session, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_session_close_async", err);

	if (status != POSTERN_OK)
		return status;
	status = postern_session_close_async(postern, session, waiter_done_session, &waiter, err);
	return waiter_wait(&waiter, status);
}
