#include <stdlib.h>
#include <string.h>

#include "server/feeds/feeds.h"
#include "server/service/service.h"

#define PIECE_NETWORKS 512 /* a window of credit stays below what a connection may queue */
#define NETWORK_TEXT 100 /* two IPv6 addresses and a hyphen */

static void state_to_wire(const struct feed_state *state, Postern__V1__FeedState *message)
{
	const struct feed_record *record = state->record;
	postern__v1__feed_state__init(message);
	message->name = wire_text(record->name);
	message->kind = record->is_name ? POSTERN__V1__FEED_KIND__FEED_KIND_NAME
					: POSTERN__V1__FEED_KIND__FEED_KIND_FEED;
	message->url = wire_text(state->url);
	message->addresses = state->addresses->v4_count + state->addresses->v6_count;
	message->fetched_us = record->fetched_us;
	message->checked_us = record->checked_us;
	message->next_us = state->next_us;
	message->error = wire_text(record->error);
	message->held = state->held != NULL;
	if (state->held)
		message->held_addresses = state->held->v4_count + state->held->v6_count;
	message->etag = wire_text(record->etag);
}

static void list_one(void *arg, const struct feed_state *state)
{
	Postern__V1__FeedState message;
	state_to_wire(state, &message);
	outbox_add(arg, &message.base);
}

static void handle_list(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedListRequest *input, Postern__V1__FeedState_Closure closure,
	void *data)
{
	struct outbox *outbox = outbox_new(data);
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	feeds_each(SERVICES_OF(service, feeds)->core->feeds, list_one, outbox);
	outbox_send(outbox);
}

/* ---- what is in it ---- */

struct pieces {
	struct outbox *outbox;
	Postern__V1__FeedPiece message;
	char (*texts)[NETWORK_TEXT];
	char **pointers;
	bool held, has_held;
};

static void send_piece(struct pieces *pieces)
{
	outbox_add(pieces->outbox, &pieces->message.base);
	pieces->message.state = NULL;
	pieces->message.n_networks = 0;
}

static void add_range(struct pieces *pieces, const struct addr *first, const struct addr *last)
{
	char from[ADDR_TEXT_SIZE], to[ADDR_TEXT_SIZE];
	size_t at = pieces->message.n_networks++;
	addr_format(first, from);
	addr_format(last, to);
	if (addr_equal(first, last))
		snprintf(pieces->texts[at], NETWORK_TEXT, "%s", from);
	else
		snprintf(pieces->texts[at], NETWORK_TEXT, "%s-%s", from, to);
	pieces->pointers[at] = pieces->texts[at];
	if (pieces->message.n_networks == PIECE_NETWORKS)
		send_piece(pieces);
}

static struct addr addr_of(unsigned __int128 number, enum addr_family family)
{
	struct addr addr = {.family = (uint8_t)family};
	size_t length = family == ADDR_IPV4 ? 4 : 16;
	for (size_t i = length; i > 0; i--, number >>= 8)
		addr.bytes[i - 1] = (uint8_t)number;
	return addr;
}

static void add_ranges(struct pieces *pieces, const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->v4_count; i++) {
		struct addr first = addr_of(ranges->v4[i].first, ADDR_IPV4);
		struct addr last = addr_of(ranges->v4[i].last, ADDR_IPV4);
		add_range(pieces, &first, &last);
	}
	for (size_t i = 0; i < ranges->v6_count; i++) {
		struct addr first = addr_of(ranges->v6[i].first, ADDR_IPV6);
		struct addr last = addr_of(ranges->v6[i].last, ADDR_IPV6);
		add_range(pieces, &first, &last);
	}
}

static void show_one(void *arg, const struct feed_state *state)
{
	struct pieces *pieces = arg;
	Postern__V1__FeedState message;
	state_to_wire(state, &message);
	pieces->has_held = state->held != NULL;
	if (pieces->held && !state->held)
		return;
	pieces->message.state = &message;
	add_ranges(pieces, pieces->held ? state->held : state->addresses);
	if (pieces->message.state || pieces->message.n_networks > 0)
		send_piece(pieces);
	pieces->message.state = NULL;
}

static void not_found(struct rpc_call *call, const char *name)
{
	struct error err;
	error_set(&err, STATUS_NOT_FOUND,
		"name: no feed or DNS name of the document in force is called \"%.60s\": see "
		"`postern feed list`",
		name);
	copy_text(err.field, sizeof err.field, "name");
	rpc_fail(call, &err);
}

static void handle_show(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedShowRequest *input, Postern__V1__FeedPiece_Closure closure,
	void *data)
{
	struct feeds *feeds = SERVICES_OF(service, feeds)->core->feeds;
	struct pieces pieces = {.outbox = outbox_new(data), .held = input->held};
	struct error err;
	(void)closure;
	if (!pieces.outbox)
		return;
	postern__v1__feed_piece__init(&pieces.message);
	pieces.texts = calloc(PIECE_NETWORKS, sizeof *pieces.texts);
	pieces.pointers = calloc(PIECE_NETWORKS, sizeof *pieces.pointers);
	pieces.message.networks = pieces.pointers;
	if (!pieces.texts || !pieces.pointers) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		outbox_fail(pieces.outbox, &err);
	} else if (!feeds_find(feeds, input->name, show_one, &pieces)) {
		error_set(&err, STATUS_NOT_FOUND,
			"name: no feed or DNS name of the document in force is called \"%.60s\": "
			"see `postern feed list`",
			input->name);
		outbox_fail(pieces.outbox, &err);
	} else if (input->held && !pieces.has_held) {
		error_set(
			&err, STATUS_NOT_FOUND, "held: no copy of %.60s is held back", input->name);
		outbox_fail(pieces.outbox, &err);
	} else {
		outbox_send(pieces.outbox);
	}
	free(pieces.texts);
	free(pieces.pointers);
}

/* ---- trying, taking ---- */

static void reply_state(void *arg, const struct feed_state *state)
{
	Postern__V1__FeedState message;
	state_to_wire(state, &message);
	rpc_reply(arg, &message.base);
}

struct refreshing {
	struct feeds *feeds;
	struct rpc_call *call;
	char name[RECORD_SOURCE_SIZE];
};

static void gone(void *arg, enum status why)
{
	struct refreshing *refreshing = arg;
	struct error err;
	feeds_forget(refreshing->feeds, refreshing);
	error_set(&err, why, "the caller went away");
	rpc_fail(refreshing->call, &err);
	free(refreshing);
}

static void on_refreshed(void *arg, const struct error *err)
{
	struct refreshing *refreshing = arg;
	if (err->status == STATUS_NOT_FOUND && strcmp(err->field, "name") == 0)
		rpc_fail(refreshing->call, err);
	else if (!feeds_find(refreshing->feeds, refreshing->name, reply_state, refreshing->call))
		not_found(refreshing->call, refreshing->name);
	free(refreshing);
}

static void handle_refresh(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedRefreshRequest *input, Postern__V1__FeedState_Closure closure,
	void *data)
{
	struct feeds *feeds = SERVICES_OF(service, feeds)->core->feeds;
	struct refreshing *refreshing = call_state_new(data, sizeof *refreshing, gone);
	(void)closure;
	if (!refreshing)
		return;
	refreshing->feeds = feeds;
	refreshing->call = data;
	copy_text(refreshing->name, sizeof refreshing->name, input->name);
	feeds_refresh(feeds, refreshing->name, on_refreshed, refreshing);
}

static void handle_confirm(Postern__V1__Feeds_Service *service,
	const Postern__V1__FeedConfirmRequest *input, Postern__V1__FeedState_Closure closure,
	void *data)
{
	struct feeds *feeds = SERVICES_OF(service, feeds)->core->feeds;
	struct error err;
	(void)closure;
	if (feeds_confirm(feeds, input->name, rpc_call_principal(data)->name, &err))
		rpc_fail(data, &err);
	else
		(void)feeds_find(feeds, input->name, reply_state, data);
}

void feeds_service_init(struct services *services)
{
	Postern__V1__Feeds_Service service = POSTERN__V1__FEEDS__INIT(handle_);
	services->feeds = service;
}
