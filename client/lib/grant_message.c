#include "client/lib/grant_message.h"

#include <stdio.h>
#include <string.h>

#include "common/id.h"

#define CONTEXT_MAX 4096

/* What connect and accept have in common, as the fields of a connect. */
static struct postern_grant_request shared_part(const struct postern_bundle_item *item)
{
	const struct postern_accept_request *accept = item->accept;

	if (item->connect)
		return *item->connect;
	return (struct postern_grant_request){
		.gateway = accept->gateway,
		.session = accept->session,
		.client = accept->client,
		.transport = accept->transport,
		.flags = accept->flags,
		.protocol = accept->protocol,
		.external = accept->external,
		.external_port = accept->external_port,
		.notify = accept->notify,
		.context = accept->context,
		.context_size = accept->context_size,
		.lifetime_ms = accept->lifetime_ms,
		.max_connections = accept->max_connections,
		.request_id = accept->request_id,
		.wait_decided = accept->wait_decided,
		.deadline_ms = accept->deadline_ms,
		.reservation_ms = accept->reservation_ms,
	};
}

/* ---- checks ---- */

static enum status check_shared(const struct postern_grant_request *request, struct error *err)
{
	struct id id;

	if (!request->session && !request->gateway)
		return error_field(err, "gateway", "without a session a grant needs a gateway");
	if (!request->session && !request->client)
		return error_field(err, "client", "without a session a grant needs a client");
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

static enum status check_remotes(const struct postern_accept_request *accept, struct error *err)
{
	if (!accept->remotes && accept->remote_count)
		return error_field(err, "remotes", "remote_count is %zu, but remotes is NULL",
			accept->remote_count);
	if (accept->remotes && !accept->remote_count)
		return error_field(err, "remotes",
			"the list is empty; give who may connect, or NULL for anybody");
	if (accept->remote_count > GRANT_REMOTES_MAX)
		return error_field(err, "remotes", "%zu addresses; at most %d, or NULL for anybody",
			accept->remote_count, GRANT_REMOTES_MAX);
	for (size_t i = 0; i < accept->remote_count; i++)
		if (!accept->remotes[i] || !*accept->remotes[i])
			return error_field(err, "remotes", "remotes[%zu] is no address", i);
	return STATUS_OK;
}

static enum status check(const struct postern_bundle_item *item,
	const struct postern_grant_request *shared, struct error *err)
{
	enum status status = check_shared(shared, err);

	if (status != STATUS_OK)
		return status;
	if (item->connect && (!item->connect->remote || !*item->connect->remote))
		return error_field(err, "remote", "a grant needs a remote address");
	if (item->connect)
		return STATUS_OK;
	if (!item->accept->client_port)
		return error_field(err, "client_port", "say at which port the client listens");
	return check_remotes(item->accept, err);
}

/* ---- messages ---- */

static void fill_shared(
	const struct postern_grant_request *request, Postern__V1__GrantRequest *wire)
{
	wire->gateway = text_or_empty(request->gateway);
	wire->session = text_or_empty(request->session);
	wire->client = text_or_empty(request->client);
	wire->transport = (Postern__V1__Transport)request->transport;
	wire->flags = request->flags;
	wire->protocol = text_or_empty(request->protocol);
	wire->external = text_or_empty(request->external);
	wire->external_port = request->external_port;
	wire->notify = request->notify != 0;
	wire->context.data = (uint8_t *)(uintptr_t)request->context;
	wire->context.len = request->context_size;
	wire->lifetime_ms = request->lifetime_ms;
	wire->max_connections = request->max_connections;
}

static void fill_connect(
	const struct postern_grant_request *connect, Postern__V1__GrantRequest *wire)
{
	wire->direction = POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND;
	wire->remote = text_or_empty(connect->remote);
	wire->remote_port = connect->remote_port;
	wire->remote_port_last = connect->remote_port_last;
}

static void fill_accept(const struct postern_accept_request *accept, struct grant_message *message)
{
	Postern__V1__GrantRequest *wire = &message->wire;

	wire->direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	wire->client_port = accept->client_port;
	if (accept->remote_count == 1) {
		wire->remote = text_or_empty(accept->remotes[0]);
		return;
	}
	for (size_t i = 0; i < accept->remote_count; i++)
		message->remotes[i] = text_or_empty(accept->remotes[i]);
	wire->remotes = message->remotes;
	wire->n_remotes = accept->remote_count;
}

enum status grant_message_init(struct grant_message *message,
	const struct postern_bundle_item *item, struct grant_terms *ret_terms, struct error *err)
{
	struct postern_grant_request shared;
	enum status status;

	if (!item->connect == !item->accept)
		return error_field(err, "item", "give one of connect and accept, and not both");
	shared = shared_part(item);
	status = check(item, &shared, err);
	if (status != STATUS_OK)
		return status;
	postern__v1__grant_request__init(&message->wire);
	fill_shared(&shared, &message->wire);
	if (item->connect)
		fill_connect(item->connect, &message->wire);
	else
		fill_accept(item->accept, message);
	message->wire.reservation_ms = shared.reservation_ms;
	ret_terms->request_id = shared.request_id;
	ret_terms->deadline_ms = shared.deadline_ms;
	ret_terms->wait = shared.wait_decided ? POSTERN__V1__WAIT__WAIT_DECIDED
					      : POSTERN__V1__WAIT__WAIT_INSTALLED;
	return STATUS_OK;
}

void grant_message_id(const struct grant_terms *terms, char *ret_text)
{
	struct id id;

	if (!terms->request_id || !id_parse(terms->request_id, &id))
		id = id_new();
	id_format(&id, ret_text);
}

enum status grant_message_read(
	const Postern__V1__GrantReply *reply, struct postern_grant *ret_grant, struct error *err)
{
	const Postern__V1__Grant *grant = reply ? reply->grant : NULL;

	if (!grant || !*grant->id || strlen(grant->id) >= sizeof(ret_grant->id) ||
		strlen(grant->request_id) >= sizeof(ret_grant->request_id) ||
		strlen(grant->external) >= sizeof(ret_grant->external) ||
		grant->external_port > UINT16_MAX)
		return error_set(err, STATUS_INTERNAL, "the server's answer names no grant");
	memset(ret_grant, 0, sizeof(*ret_grant));
	snprintf(ret_grant->id, sizeof(ret_grant->id), "%s", grant->id);
	snprintf(ret_grant->request_id, sizeof(ret_grant->request_id), "%s", grant->request_id);
	snprintf(ret_grant->external, sizeof(ret_grant->external), "%s", grant->external);
	ret_grant->external_port = (uint16_t)grant->external_port;
	ret_grant->left_ms = grant->left_ms;
	ret_grant->lifetime_clamped = grant->lifetime_clamped != 0;
	if (reply->timing) {
		ret_grant->decide_us = reply->timing->decide_us;
		ret_grant->commit_us = reply->timing->commit_us;
		ret_grant->push_us = reply->timing->push_us;
		ret_grant->kernel_us = reply->timing->kernel_us;
	}
	return STATUS_OK;
}

enum status bundle_message_read(const Postern__V1__BundleReply *reply, size_t expected,
	struct postern_bundle *ret_bundle, struct postern_grant grants[static POSTERN_BUNDLE_MAX],
	struct error *err)
{
	if (!reply || !*reply->bundle || strlen(reply->bundle) >= sizeof(ret_bundle->id) ||
		reply->n_grants > POSTERN_BUNDLE_MAX)
		return error_set(err, STATUS_INTERNAL, "the server's answer names no bundle");
	if (expected && reply->n_grants != expected)
		return error_set(err, STATUS_INTERNAL,
			"the server answered with %zu grants, asked for were %zu", reply->n_grants,
			expected);
	for (size_t i = 0; i < reply->n_grants; i++) {
		enum status status = grant_message_read(reply->grants[i], &grants[i], err);
		if (status != STATUS_OK)
			return status;
	}
	snprintf(ret_bundle->id, sizeof(ret_bundle->id), "%s", reply->bundle);
	ret_bundle->count = reply->n_grants;
	ret_bundle->grants = grants;
	return STATUS_OK;
}
