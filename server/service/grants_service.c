#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/service/service.h"

static bool parse_optional_id(const char *text, struct id *ret_id)
{
	return text[0] == '\0' || id_parse(text, ret_id);
}

static bool parse_optional_addr(const char *text, struct addr *ret_addr)
{
	return text[0] == '\0' || addr_parse(text, ret_addr);
}

static enum status parse_request(
	const Postern__V1__GrantRequest *input, struct grant_ask *ask, struct error *err)
{
	struct grant_record *record = &ask->record;
	if (!copy_text(record->gateway, sizeof record->gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (!parse_optional_id(input->session, &record->session))
		return error_field(
			err, "session", "session: \"%.60s\" is not a UUID", input->session);
	if (!parse_optional_id(input->request_id, &record->request_id))
		return error_field(err, "request_id", "request_id: \"%.60s\" is not a UUID",
			input->request_id);
	if (input->client[0] == '\0' && input->session[0] == '\0')
		return error_field(err, "client", "client: give a client address or a session");
	if (!parse_optional_addr(input->client, &record->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not an IPv4 or IPv6 address", input->client);
	if (!addr_parse(input->remote, &record->remote.addr))
		return error_field(err, "remote",
			"remote: \"%.60s\" is not an IPv4 or IPv6 address", input->remote);
	if (input->remote_port > UINT16_MAX)
		return error_field(
			err, "remote_port", "remote_port: %u is not a port", input->remote_port);
	if (!parse_optional_addr(input->external, &record->external.addr))
		return error_field(err, "external",
			"external: \"%.60s\" is not an IPv4 or IPv6 address", input->external);
	if (input->external_port > UINT16_MAX)
		return error_field(err, "external_port", "external_port: %u is not a port",
			input->external_port);
	if (input->context.len > ENTRY_CONTEXT_MAX)
		return error_field(err, "context", "context: %zu bytes, at most %d",
			input->context.len, ENTRY_CONTEXT_MAX);
	if (input->protocol[0] == '\0')
		return error_field(
			err, "protocol", "protocol: name a registered protocol definition");
	if (input->lifetime_ms > 366ULL * 86400 * 1000)
		return error_field(err, "lifetime_ms", "lifetime_ms: at most 366 days");
	record->remote.port = (uint16_t)input->remote_port;
	record->external.port = (uint16_t)input->external_port;
	record->transport = (uint8_t)input->transport;
	record->flags = input->flags;
	record->notify = input->notify;
	record->context = input->context.data;
	record->context_size = input->context.len;
	record->lifetime_ms = input->lifetime_ms;
	record->max_connections = input->max_connections;
	ask->protocol = input->protocol;
	ask->until_decided = input->wait == POSTERN__V1__WAIT__WAIT_DECIDED;
	return STATUS_OK;
}

/* A call that waits for a grant. */
struct pending_call {
	struct rpc_call *call;
	struct waiter *waiter; /* NULL = not waiting (any more) */
};

static void on_settled(void *arg, const struct grant *grant, const struct error *err)
{
	struct pending_call *pending = arg;
	struct grant_wire wire;
	struct error failure = *err;
	pending->waiter = NULL;
	if (!failure.status && grant->record.state == GRANT_FAILED) {
		error_reason(&failure, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"the door was not installed: %s",
			end_reason_name((enum end_reason)grant->record.reason));
		id_format(&grant->record.id, failure.grant);
	}
	if (failure.status) {
		rpc_fail(pending->call, &failure);
	} else {
		grant_to_wire(&grant->record, grant_left_ms(grant), &grant->timing, &wire);
		rpc_reply(pending->call, &wire.reply.base);
	}
	free(pending);
}

static void on_call_end(void *arg, enum status why)
{
	struct pending_call *pending = arg;
	struct error err;
	struct waiter *waiter = pending->waiter;
	if (why == STATUS_DEADLINE_EXCEEDED)
		error_reason(&err, why, REASON_DEADLINE,
			"the gateway did not acknowledge the door before the deadline: it was "
			"withdrawn");
	else
		error_set(&err, why, "the caller went away");
	if (waiter) {
		id_format(&waiter->grant->record.id, err.grant);
		core_waiter_cancel(waiter, why == STATUS_DEADLINE_EXCEEDED);
	}
	rpc_fail(pending->call, &err);
	free(pending);
}

static struct pending_call *pending_new(struct rpc_call *call, struct error *err)
{
	struct pending_call *pending = calloc(1, sizeof *pending);
	if (!pending) {
		error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(call, err);
		return NULL;
	}
	pending->call = call;
	return pending;
}

static void handle_request(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRequest *input, Postern__V1__GrantReply_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct rpc_call *call = data;
	struct grant_ask ask = {.began_us = clock_mono_us(), .is_admin = is_admin(call)};
	struct waiter *waiter = NULL;
	struct error err = {0};
	(void)closure;
	struct pending_call *pending = pending_new(call, &err);
	if (!pending)
		return;
	ask.asker = principals_find(&services->core->principals, rpc_call_principal(call)->name);
	copy_text(ask.record.filter, sizeof ask.record.filter, rpc_call_principal(call)->name);
	if (parse_request(input, &ask, &err)) {
		free(pending);
		rpc_fail(call, &err);
		return;
	}
	/* `settled at once` answers the call and frees `pending` inside: then there is no waiter.
	 */
	enum status status = core_request(services->core, &ask, on_settled, pending, &waiter, &err);
	if (status) {
		free(pending);
		rpc_fail(call, &err);
	} else if (waiter) {
		pending->waiter = waiter;
		rpc_on_end(call, on_call_end, pending);
	}
}

/* Filters see and touch their own grants only. */
static bool may_see(const struct rpc_call *call, const struct grant_record *record)
{
	const struct rpc_principal *principal = rpc_call_principal(call);
	return principal->role != RPC_ROLE_FILTER || strcmp(record->filter, principal->name) == 0;
}

static enum status parse_id(const char *text, struct id *ret_id, struct error *err)
{
	if (id_parse(text, ret_id))
		return STATUS_OK;
	return error_field(err, "id", "id: \"%.60s\" is not a grant's id (UUID)", text);
}

struct lookup {
	struct rpc_call *call;
	bool cancel;
};

static void found_on_disk(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	struct lookup *lookup = arg;
	struct error failure = *err;
	struct grant_wire wire;
	if (!failure.status && (count == 0 || !may_see(lookup->call, &grants[0])))
		error_set(&failure, STATUS_NOT_FOUND, "no grant has this id");
	else if (!failure.status && lookup->cancel)
		error_reason(&failure, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"the grant has already ended");
	if (failure.status) {
		rpc_fail(lookup->call, &failure);
	} else {
		grant_to_wire(&grants[0], 0, NULL, &wire);
		rpc_reply(lookup->call, &wire.reply.base);
	}
	free(lookup);
}

static void look_up(
	struct services *services, struct rpc_call *call, const struct id *id, bool cancel)
{
	struct lookup *lookup = malloc(sizeof *lookup);
	struct store_grant_query query = {.id = *id, .limit = 1};
	if (!lookup) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(call, &err);
		return;
	}
	*lookup = (struct lookup){.call = call, .cancel = cancel};
	store_read_grants(services->core->store, &query, found_on_disk, lookup);
}

static void on_cancelled(void *arg, const struct grant *grant, const struct error *err)
{
	struct pending_call *pending = arg;
	struct grant_wire wire;
	if (err->status) {
		rpc_fail(pending->call, err);
	} else {
		grant_to_wire(&grant->record, 0, NULL, &wire);
		rpc_reply(pending->call, &wire.reply.base);
	}
	free(pending);
}

/* The grant of a request whose answer the caller never got: it knows only the request's id. */
static struct grant *asked_for(
	struct services *services, struct rpc_call *call, const char *text, struct error *err)
{
	struct id request_id;
	struct grant *grant = NULL;
	if (!id_parse(text, &request_id)) {
		error_field(err, "request_id", "request_id: \"%.60s\" is not a UUID", text);
		return NULL;
	}
	grant = core_find_request(services->core, rpc_call_principal(call)->name, &request_id);
	if (!grant)
		error_set(err, STATUS_NOT_FOUND, "no live grant of yours has this request id");
	return grant;
}

static void handle_cancel(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCancelRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct rpc_call *call = data;
	struct error err = {0};
	struct grant *grant = NULL;
	struct id id;
	(void)closure;
	if (input->id[0] == '\0' && input->request_id[0] != '\0')
		grant = asked_for(services, call, input->request_id, &err);
	else if (!parse_id(input->id, &id, &err))
		grant = core_find_grant(services->core, &id);
	if (err.status) {
		rpc_fail(call, &err);
		return;
	}
	if (!grant || !may_see(call, &grant->record)) {
		look_up(services, call, &id, true);
		return;
	}
	bool own = strcmp(grant->record.filter, rpc_call_principal(call)->name) == 0;
	struct pending_call *pending = pending_new(call, &err);
	if (!pending)
		return;
	if (core_cancel(services->core, grant,
		    own ? END_CANCELLED_BY_FILTER : END_REVOKED_BY_OPERATOR,
		    rpc_call_principal(call)->name, on_cancelled, pending, &err)) {
		free(pending);
		rpc_fail(call, &err);
	}
}

static void handle_show(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantShowRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct rpc_call *call = data;
	struct grant_wire wire;
	struct error err;
	struct id id;
	(void)closure;
	if (parse_id(input->id, &id, &err)) {
		rpc_fail(call, &err);
		return;
	}
	struct grant *grant = core_find_grant(services->core, &id);
	if (!grant || !may_see(call, &grant->record) || !grant->committed) {
		look_up(services, call, &id, false);
		return;
	}
	grant_to_wire(&grant->record, grant_left_ms(grant), &grant->timing, &wire);
	rpc_reply(call, &wire.reply.base);
}

/* ---- List: live ones from memory by their ids, then (all) pages from disk; both wait for credit
 * ---- */

#define LIST_LIMIT 1000
#define LIST_LIMIT_MAX 100000

struct listing {
	struct services *services;
	struct rpc_call *call;
	struct store_grant_query query;
	struct addr client;
	struct id *ids; /* live listing: what is still to be sent */
	size_t count, capacity, at;
	uint32_t left;
	bool all, reading, over, failed;
	struct grant_record *page; /* disk listing: copy of the page under way */
	size_t page_count, page_at;
};

static void listing_free(struct listing *listing)
{
	for (size_t i = 0; i < listing->page_count; i++)
		free(listing->page[i].context);
	free(listing->page);
	free(listing->ids);
	free(listing);
}

static void listing_over(void *arg, enum status why)
{
	struct listing *listing = arg;
	struct error err;
	if (listing->reading) { /* the page's callback ends it */
		listing->over = true;
		return;
	}
	error_set(&err, why, "the caller went away");
	rpc_fail(listing->call, &err);
	listing_free(listing);
}

static void listing_pump(void *arg);

static bool listing_wants(const struct listing *listing, const struct grant_record *record)
{
	const struct store_grant_query *query = &listing->query;
	return (!query->filter[0] || strcmp(query->filter, record->filter) == 0) &&
		(!query->gateway[0] || strcmp(query->gateway, record->gateway) == 0) &&
		(listing->client.family == ADDR_NONE ||
			addr_equal(&listing->client, &record->client)) &&
		(id_is_zero(&query->session) || id_equal(&query->session, &record->session));
}

static void listing_collect(struct grant *grant, void *arg)
{
	struct listing *listing = arg;
	if (grant->ended || !grant->committed || listing->count >= listing->left ||
		!listing_wants(listing, &grant->record))
		return;
	if (listing->count == listing->capacity) {
		size_t capacity = listing->capacity ? listing->capacity * 2 : 64;
		struct id *grown = realloc(listing->ids, capacity * sizeof *grown);
		if (!grown) {
			listing->failed = true;
			return;
		}
		listing->ids = grown;
		listing->capacity = capacity;
	}
	listing->ids[listing->count++] = grant->record.id;
}

static int compare_id(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct id));
}

static bool listing_send(
	struct listing *listing, const struct grant_record *record, uint64_t left_ms)
{
	struct grant_wire wire;
	grant_to_wire(record, left_ms, NULL, &wire);
	return rpc_item(listing->call, &wire.reply.base) == STATUS_OK;
}

static void listing_page(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	struct listing *listing = arg;
	listing->reading = false;
	if (listing->over || err->status) {
		struct error failure = *err;
		if (!failure.status)
			error_set(&failure, STATUS_CANCELLED, "the caller went away");
		rpc_fail(listing->call, &failure);
		listing_free(listing);
		return;
	}
	listing->page = count ? calloc(count, sizeof *listing->page) : NULL;
	listing->page_count = listing->page ? count : 0;
	listing->page_at = 0;
	for (size_t i = 0; i < listing->page_count; i++) {
		listing->page[i] = grants[i];
		listing->page[i].context =
			grants[i].context_size ? malloc(grants[i].context_size) : NULL;
		if (listing->page[i].context)
			memcpy(listing->page[i].context, grants[i].context, grants[i].context_size);
		else
			listing->page[i].context_size = 0;
	}
	if (listing->page_count == 0)
		listing->left = 0;
	listing_pump(listing);
}

static void listing_pump_disk(struct listing *listing)
{
	while (listing->left > 0 && listing->page_at < listing->page_count) {
		struct grant_record *record = &listing->page[listing->page_at];
		struct grant *live = core_find_grant(listing->services->core, &record->id);
		if (!listing_send(listing, record, live ? grant_left_ms(live) : 0))
			return;
		listing->query.before = record->id;
		listing->page_at++;
		listing->left--;
	}
	if (listing->left == 0) {
		rpc_end(listing->call);
		listing_free(listing);
		return;
	}
	for (size_t i = 0; i < listing->page_count; i++)
		free(listing->page[i].context);
	free(listing->page);
	listing->page = NULL;
	listing->page_count = 0;
	listing->query.limit = listing->left;
	listing->reading = true;
	store_read_grants(listing->services->core->store, &listing->query, listing_page, listing);
}

static void listing_pump(void *arg)
{
	struct listing *listing = arg;
	if (listing->reading)
		return;
	if (listing->all) {
		listing_pump_disk(listing);
		return;
	}
	for (; listing->at < listing->count; listing->at++) {
		struct grant *grant =
			core_find_grant(listing->services->core, &listing->ids[listing->at]);
		if (grant && !grant->ended &&
			!listing_send(listing, &grant->record, grant_left_ms(grant)))
			return;
	}
	rpc_end(listing->call);
	listing_free(listing);
}

static enum status listing_parse(
	struct listing *listing, const Postern__V1__GrantListRequest *input, struct error *err)
{
	const struct rpc_principal *principal = rpc_call_principal(listing->call);
	if (!copy_text(listing->query.gateway, sizeof listing->query.gateway, input->gateway))
		return error_field(err, "gateway", "gateway: the name is too long");
	if (!parse_optional_addr(input->client, &listing->client))
		return error_field(err, "client",
			"client: \"%.60s\" is not an IPv4 or IPv6 address", input->client);
	if (!parse_optional_id(input->session, &listing->query.session))
		return error_field(
			err, "session", "session: \"%.60s\" is not a UUID", input->session);
	addr_format(&listing->client, listing->query.client);
	if (principal->role == RPC_ROLE_FILTER)
		copy_text(listing->query.filter, sizeof listing->query.filter, principal->name);
	listing->all = input->all;
	listing->left = input->limit ? input->limit : LIST_LIMIT;
	if (listing->left > LIST_LIMIT_MAX)
		return error_field(err, "limit", "limit: at most %d", LIST_LIMIT_MAX);
	return STATUS_OK;
}

static void handle_list(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantListRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct listing *listing = calloc(1, sizeof *listing);
	struct error err = {0};
	(void)closure;
	if (!listing) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(data, &err);
		return;
	}
	listing->services = SERVICES_OF(service, grants);
	listing->call = data;
	if (!listing_parse(listing, input, &err) && !listing->all) {
		core_each_grant(listing->services->core, listing_collect, listing);
		if (listing->failed)
			error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		else if (listing->count > 0)
			qsort(listing->ids, listing->count, sizeof *listing->ids, compare_id);
	}
	if (err.status) {
		rpc_fail(data, &err);
		listing_free(listing);
		return;
	}
	rpc_on_end(data, listing_over, listing);
	rpc_on_credit(data, listing_pump, listing);
	listing_pump(listing);
}

void grants_service_init(struct services *services)
{
	Postern__V1__Grants_Service service = POSTERN__V1__GRANTS__INIT(handle_);
	services->grants = service;
}
