#include <stdio.h>
#include <string.h>

#include "client/lib/internal.h"
#include "common/id.h"
#include "postern/v1/grants.pb-c.h"

#define CONTEXT_MAX 4096

static enum status read_grant(
	const ProtobufCMessage *reply, struct postern_grant *ret_grant, struct error *err)
{
	const Postern__V1__GrantReply *answer = (const Postern__V1__GrantReply *)reply;
	const Postern__V1__Grant *grant = answer ? answer->grant : NULL;

	if (!grant || !*grant->id || strlen(grant->id) >= sizeof(ret_grant->id) ||
		strlen(grant->request_id) >= sizeof(ret_grant->request_id))
		return error_set(err, STATUS_INTERNAL, "the server's answer names no grant");
	memset(ret_grant, 0, sizeof(*ret_grant));
	snprintf(ret_grant->id, sizeof(ret_grant->id), "%s", grant->id);
	snprintf(ret_grant->request_id, sizeof(ret_grant->request_id), "%s", grant->request_id);
	ret_grant->left_ms = grant->left_ms;
	if (answer->timing) {
		ret_grant->decide_us = answer->timing->decide_us;
		ret_grant->commit_us = answer->timing->commit_us;
		ret_grant->push_us = answer->timing->push_us;
		ret_grant->kernel_us = answer->timing->kernel_us;
	}
	return STATUS_OK;
}

static void on_answer(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	const struct call_spec *spec = call_spec_of(call);
	struct postern_grant grant = {0};
	struct postern_error told;
	struct error outcome = *err;

	if (outcome.status == STATUS_OK)
		read_grant(reply, &grant, &outcome);
	error_publish(&outcome, &told);
	if (spec->on_grant)
		spec->on_grant(spec->arg, told.status == POSTERN_OK ? &grant : NULL, &told);
}

/* What would not survive the way to the server; all else is the server's to judge. */
static enum status check(const struct postern_grant_request *request, struct error *err)
{
	struct id id;

	if (!request->session && !request->gateway)
		return error_field(err, "gateway", "without a session a grant needs a gateway");
	if (!request->session && !request->client)
		return error_field(err, "client", "without a session a grant needs a client");
	if (!request->remote)
		return error_field(err, "remote", "a grant needs a remote address");
	if (!request->protocol)
		return error_field(err, "protocol", "a grant needs a protocol definition");
	if (request->transport != POSTERN_TCP && request->transport != POSTERN_UDP)
		return error_field(err, "transport", "%d is neither POSTERN_TCP nor POSTERN_UDP",
			(int)request->transport);
	if (request->context_size > CONTEXT_MAX)
		return error_field(err, "context", "%zu bytes; at most %d are kept",
			request->context_size, CONTEXT_MAX);
	if (request->context_size && !request->context)
		return error_field(err, "context", "context_size is %zu, but context is NULL",
			request->context_size);
	if (request->request_id && !id_parse(request->request_id, &id))
		return error_field(
			err, "request_id", "\"%.40s\" is not a UUID", request->request_id);
	return STATUS_OK;
}

static void fill(const struct postern_grant_request *request, const char *request_id,
	Postern__V1__GrantRequest *message)
{
	message->gateway = text_or_empty(request->gateway);
	message->session = text_or_empty(request->session);
	message->client = text_or_empty(request->client);
	message->remote = text_or_empty(request->remote);
	message->remote_port = request->remote_port;
	message->transport = (Postern__V1__Transport)request->transport;
	message->flags = request->flags;
	message->protocol = text_or_empty(request->protocol);
	message->external = text_or_empty(request->external);
	message->external_port = request->external_port;
	message->notify = request->notify != 0;
	message->context.data = (uint8_t *)(uintptr_t)request->context;
	message->context.len = request->context_size;
	message->lifetime_ms = request->lifetime_ms;
	message->max_connections = request->max_connections;
	message->request_id = text_or_empty(request_id);
	message->wait = request->wait_decided ? POSTERN__V1__WAIT__WAIT_DECIDED
					      : POSTERN__V1__WAIT__WAIT_INSTALLED;
}

enum postern_status postern_allow_future_connect_async(struct postern *postern,
	const struct postern_grant_request *request, postern_grant_cb cb, void *arg,
	struct postern_error *ret_err)
{
	Postern__V1__GrantRequest message = POSTERN__V1__GRANT_REQUEST__INIT;
	char request_id[ID_TEXT_SIZE];
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = "Request",
		.request = &message.base,
		.deadline_ms = request->deadline_ms,
		.retry_id = request_id,
		.done = on_answer,
		.on_grant = cb,
		.arg = arg,
	};
	struct error err = {0};
	struct id id;

	if (check(request, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	if (!request->request_id || !id_parse(request->request_id, &id))
		id = id_new();
	id_format(&id, request_id);
	fill(request, request_id, &message);
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_cancel_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *ret_err)
{
	Postern__V1__GrantCancelRequest message = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = "Cancel",
		.request = &message.base,
		.done = on_answer,
		.on_grant = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (!grant) {
		error_field(&err, "grant", "no grant given");
		return error_give(&err, ret_err);
	}
	message.id = text_or_empty(grant);
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_allow_future_connect(struct postern *postern,
	const struct postern_grant_request *request, struct postern_grant *ret_grant,
	struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_allow_future_connect_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_grant = ret_grant;
	status = postern_allow_future_connect_async(
		postern, request, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_cancel(
	struct postern *postern, const char *grant, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status = waiter_init(&waiter, postern, "postern_cancel_async", err);

	if (status != POSTERN_OK)
		return status;
	status = postern_cancel_async(postern, grant, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}
