#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
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
	if (input->transport != POSTERN__V1__TRANSPORT__TRANSPORT_TCP &&
		input->transport != POSTERN__V1__TRANSPORT__TRANSPORT_UDP)
		return error_field(err, "transport", "transport: tcp or udp");
	record->transport = (uint8_t)input->transport;
	record->flags = input->flags;
	record->notify = input->notify;
	record->context = input->context.data;
	record->context_size = input->context.len;
	record->lifetime_ms = input->lifetime_ms;
	record->max_connections = input->max_connections;
	ask->protocol = input->protocol;
	ask->until =
		input->wait == POSTERN__V1__WAIT__WAIT_DECIDED ? UNTIL_DECIDED : UNTIL_INSTALLED;
	return STATUS_OK;
}

/* A call that waits for a grant. */
struct waiting_call {
	struct rpc_call *call;
	struct waiter waiter;
};

static void reply_grant(struct rpc_call *call, const struct grant *grant)
{
	struct grant_wire wire;
	grant_to_wire(&grant->record, grant_left_ms(grant), &grant->timing, &wire);
	rpc_reply(call, &wire.reply.base);
}

static void on_answer(void *arg, const struct grant *grant, const struct error *err)
{
	struct waiting_call *waiting = arg;
	if (err->status)
		rpc_fail(waiting->call, err);
	else
		reply_grant(waiting->call, grant);
	free(waiting);
}

/* The caller waits no more. */
static void on_request_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	struct error err;
	enum leaving leaving = LEAVE_GONE;
	if (why == STATUS_DEADLINE_EXCEEDED) {
		leaving = LEAVE_DEADLINE;
		error_reason(&err, why, REASON_DEADLINE,
			"the gateway did not acknowledge the door before the deadline: it was "
			"withdrawn");
	} else {
		leaving = why == STATUS_CANCELLED ? LEAVE_CANCELLED : LEAVE_GONE;
		error_set(&err, why, "the caller went away");
	}
	if (waiting->waiter.grant)
		id_format(&waiting->waiter.grant->record.id, err.grant);
	waiter_leave(&waiting->waiter, leaving);
	rpc_fail(waiting->call, &err);
	free(waiting);
}

/* NULL: the call was failed. */
static struct waiting_call *waiting_new(struct rpc_call *call, void (*on_end)(void *, enum status))
{
	struct waiting_call *waiting = calloc(1, sizeof *waiting);
	if (!waiting) {
		fail_without_memory(call);
		return NULL;
	}
	waiting->call = call;
	waiting->waiter.done = on_answer;
	waiting->waiter.arg = waiting;
	rpc_on_end(call, on_end, waiting);
	return waiting;
}

static void waiting_fail(struct waiting_call *waiting, const struct error *err)
{
	rpc_fail(waiting->call, err);
	free(waiting);
}

static void handle_request(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRequest *input, Postern__V1__GrantReply_Closure closure, void *data)
{
	struct core *core = SERVICES_OF(service, grants)->core;
	const struct rpc_principal *caller = rpc_call_principal(data);
	struct grant_ask ask = {.began_us = clock_mono_us(),
		.deadline_us = rpc_call_deadline(data),
		.is_admin = is_admin(data)};
	struct waiting_call *waiting = waiting_new(data, on_request_end);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	if (!ask.is_admin)
		ask.asker = principals_find(&core->principals, caller->name);
	copy_text(ask.record.filter, sizeof ask.record.filter, caller->name);
	enum status status = parse_request(input, &ask, &err);
	if (!status)
		status = core_request(core, &ask, &waiting->waiter, &err);
	if (status)
		waiting_fail(waiting, &err);
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

/* The end is decided; only the gateway's acknowledgement may be missing. */
static void on_cancel_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	const struct grant *grant = waiting->waiter.grant;
	struct error err;
	error_set(&err, why, "the cancellation is under way: look at the grant again");
	if (why == STATUS_DEADLINE_EXCEEDED && grant && grant->end_committed)
		reply_grant(waiting->call, grant);
	else
		rpc_fail(waiting->call, &err);
	waiter_leave(&waiting->waiter, LEAVE_GONE);
	free(waiting);
}

/* The grant of a request whose answer the caller never got: it knows only the request's id. */
static struct grant *asked_for(
	const struct core *core, const struct rpc_call *call, const char *text, struct error *err)
{
	struct id request_id;
	struct grant *grant = NULL;
	if (id_parse(text, &request_id))
		grant = grant_find_request(core, rpc_call_principal(call)->name, &request_id);
	else
		error_field(err, "request_id", "request_id: \"%.60s\" is not a UUID", text);
	if (!grant && !err->status)
		error_set(err, STATUS_NOT_FOUND, "no live grant of yours has this request id");
	return grant;
}

static void cancel(struct core *core, struct rpc_call *call, struct grant *grant)
{
	const char *caller = rpc_call_principal(call)->name;
	bool own = strcmp(grant->record.filter, caller) == 0;
	struct waiting_call *waiting = waiting_new(call, on_cancel_end);
	struct error err;
	if (waiting &&
		core_cancel(core, grant, own ? END_CANCELLED_BY_FILTER : END_REVOKED_BY_OPERATOR,
			caller, &waiting->waiter, &err))
		waiting_fail(waiting, &err);
}

static void handle_cancel(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCancelRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct core *core = services->core;
	bool by_request = input->id[0] == '\0' && input->request_id[0] != '\0';
	struct grant *grant = NULL;
	struct error err = {0};
	struct id id = {{0}};
	(void)closure;
	if (by_request)
		grant = asked_for(core, data, input->request_id, &err);
	else if (!parse_id(input->id, &id, &err))
		grant = grant_find(core, &id);
	if (err.status)
		rpc_fail(data, &err);
	else if (grant && may_see(data, &grant->record) && (grant->committed || by_request))
		cancel(core, data, grant);
	else
		look_up(services, data, &id, true);
}

static void handle_show(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantShowRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct error err;
	struct id id;
	(void)closure;
	if (parse_id(input->id, &id, &err)) {
		rpc_fail(data, &err);
		return;
	}
	struct grant *grant = grant_find(services->core, &id);
	if (!grant || !may_see(data, &grant->record) || !grant->committed)
		look_up(services, data, &id, false);
	else
		reply_grant(data, grant);
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
	bool all, reading, over;
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

static bool listing_add(struct listing *listing, const struct id *id)
{
	if (listing->count == listing->capacity) {
		size_t capacity = listing->capacity ? listing->capacity * 2 : 64;
		struct id *grown = realloc(listing->ids, capacity * sizeof *grown);
		if (!grown)
			return false;
		listing->ids = grown;
		listing->capacity = capacity;
	}
	listing->ids[listing->count++] = *id;
	return true;
}

/* The newest of one gateway, as many as were asked for. */
static bool listing_collect(struct listing *listing, const struct gateway *gateway)
{
	uint32_t left = listing->left;
	for (const struct grant *grant = gateway->live; grant && left > 0;
		grant = grant->live_next) {
		if (!grant->committed || !listing_wants(listing, &grant->record))
			continue;
		if (!listing_add(listing, &grant->record.id))
			return false;
		left--;
	}
	return true;
}

static int newest_first(const void *a, const void *b)
{
	return memcmp(b, a, sizeof(struct id));
}

/* False: out of memory. */
static bool listing_collect_live(struct listing *listing)
{
	const struct core *core = listing->services->core;
	const struct session *session = session_find(core, &listing->query.session);
	const char *name = session ? session->record.gateway : listing->query.gateway;
	const struct gateway *gateway = name[0] ? gateway_find(core, name) : core->first_gateway;
	for (; gateway; gateway = name[0] ? NULL : gateway->next)
		if (!listing_collect(listing, gateway))
			return false;
	if (listing->count > 1)
		qsort(listing->ids, listing->count, sizeof *listing->ids, newest_first);
	if (listing->count > listing->left)
		listing->count = listing->left;
	return true;
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
		struct grant *live = grant_find(listing->services->core, &record->id);
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
			grant_find(listing->services->core, &listing->ids[listing->at]);
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
	if (!listing_parse(listing, input, &err) && !listing->all && !listing_collect_live(listing))
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (err.status) {
		rpc_fail(data, &err);
		listing_free(listing);
		return;
	}
	rpc_on_end(data, listing_over, listing);
	rpc_on_credit(data, listing_pump, listing);
	listing_pump(listing);
}

static void fail_unimplemented(struct rpc_call *call)
{
	struct error err;
	error_set(&err, STATUS_UNIMPLEMENTED, "not yet");
	rpc_fail(call, &err);
}

static void handle_request_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(data);
}

static void handle_renew(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRenewRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(data);
}

static void handle_commit(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCommitRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(data);
}

static void handle_cancel_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleCancelRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(data);
}

void grants_service_init(struct services *services)
{
	Postern__V1__Grants_Service service = POSTERN__V1__GRANTS__INIT(handle_);
	services->grants = service;
}
