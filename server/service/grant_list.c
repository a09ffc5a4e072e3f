/* Grants.List: live ones from memory by their ids, then (all) pages from disk; both wait for
 * credit.
 */
#include <stdlib.h>
#include <string.h>

#include "server/core/session.h"
#include "server/fleet/gateway.h"
#include "server/service/grants.h"

static bool parse_optional_id(const char *text, struct id *ret_id)
{
	return text[0] == '\0' || id_parse(text, ret_id);
}

static bool parse_optional_addr(const char *text, struct addr *ret_addr)
{
	return text[0] == '\0' || addr_parse(text, ret_addr);
}

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

static void page_free(struct listing *listing)
{
	for (size_t i = 0; i < listing->page_count; i++)
		grant_record_fini(&listing->page[i]);
	free(listing->page);
	listing->page = NULL;
	listing->page_count = 0;
}

static void listing_free(struct listing *listing)
{
	page_free(listing);
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
		if (!grant_record_copy(&listing->page[i], &grants[i]))
			listing->page_count = i;
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
	page_free(listing);
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

void handle_list(Postern__V1__Grants_Service *service, const Postern__V1__GrantListRequest *input,
	Postern__V1__GrantReply_Closure closure, void *data)
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
