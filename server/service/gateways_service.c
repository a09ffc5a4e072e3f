#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/auth/token.h"
#include "server/core/revision.h"
#include "server/fleet/gateway.h"
#include "server/service/service.h"

#define LIST_MAX 64

/* Splits a comma-separated list in place; the pointers lie in `text`. */
static size_t split(char *text, char **items)
{
	size_t count = 0;
	while (*text && count < LIST_MAX) {
		items[count++] = text;
		text += strcspn(text, ",\n");
		if (*text)
			*text++ = '\0';
	}
	return count;
}

struct gateway_wire {
	Postern__V1__Gateway message;
	char labels_text[RECORD_LIST_SIZE], addresses_text[RECORD_LIST_SIZE],
		problems_text[RECORD_LIST_SIZE];
	char *labels[LIST_MAX], *addresses[LIST_MAX], *problems[LIST_MAX];
};

static void to_wire(const struct gateway *gateway, struct gateway_wire *wire)
{
	Postern__V1__Gateway *message = &wire->message;
	postern__v1__gateway__init(message);
	message->name = wire_text(gateway->record.name);
	copy_text(wire->labels_text, sizeof wire->labels_text, gateway->record.labels);
	copy_text(wire->addresses_text, sizeof wire->addresses_text, gateway->addresses);
	copy_text(wire->problems_text, sizeof wire->problems_text, gateway->problems);
	message->n_labels = split(wire->labels_text, wire->labels);
	message->labels = wire->labels;
	message->n_addresses = split(wire->addresses_text, wire->addresses);
	message->addresses = wire->addresses;
	message->n_problems = split(wire->problems_text, wire->problems);
	message->problems = wire->problems;
	message->connected = gateway_is_up(gateway);
	message->mode = wire_text(gateway->mode);
	message->agent = wire_text(gateway->agent);
	message->kernel = wire_text(gateway->kernel);
	message->renewal = wire_text(gateway->renewal);
	message->boot_id = wire_text(gateway->record.boot_id);
	message->added_us = gateway->record.added_us;
	message->joined_us = gateway->record.joined_us;
	message->lost_us = gateway->lost_us;
	message->live_grants = gateway->live_grants;
	message->open_flows = gateway->flows.open_count;
	message->revision = gateway->obeys;
	if (gateway->core->revisions)
		message->current_revision = revision_current(gateway->core)->number;
}

struct addition {
	struct services *services;
	struct rpc_call *call;
	struct gateway_record gateway;
	struct principal_record principal;
	char token[TOKEN_TEXT_SIZE];
};

static void answer(struct addition *addition, const struct error *err)
{
	const struct gateway *gateway =
		gateway_find(addition->services->core, addition->gateway.name);
	Postern__V1__GatewayAddReply reply = POSTERN__V1__GATEWAY_ADD_REPLY__INIT;
	struct gateway_wire wire;
	if (!gateway || err->status) {
		rpc_fail(addition->call, err);
	} else {
		to_wire(gateway, &wire);
		reply.gateway = &wire.message;
		reply.token = addition->token;
		rpc_reply(addition->call, &reply.base);
	}
	token_wipe(addition->token);
	free(addition);
}

/* Rules that name it, or a label of it, match from now on. */
static void on_compiled(void *arg)
{
	const struct error none = {0};
	answer(arg, &none);
}

static void added(void *arg, uint64_t sequence, const struct error *err)
{
	struct addition *addition = arg;
	struct core *core = addition->services->core;
	struct error failure = *err;
	(void)sequence;
	struct gateway *gateway =
		failure.status || core->stopping ? NULL : gateway_load(core, &addition->gateway);
	if (!failure.status &&
		(!gateway || !principals_add(&core->principals, &addition->principal)))
		error_set(&failure, STATUS_RESOURCE_EXHAUSTED,
			"the gateway is on disk but the server is out of memory: restart it");
	if (failure.status) {
		answer(addition, &failure);
		return;
	}
	revision_recompile(core);
	revision_when_compiled(core, on_compiled, addition);
}

static enum status parse(const struct core *core, const Postern__V1__GatewayAddRequest *input,
	struct gateway_record *record, struct error *err)
{
	size_t used = 0;
	if (!name_is_valid(input->name))
		return error_field(err, "name",
			"name: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -, beginning with a letter or "
			"digit",
			input->name);
	if (gateway_find(core, input->name) || principals_find(&core->principals, input->name))
		return error_set(err, STATUS_ALREADY_EXISTS, "name: \"%s\" is taken", input->name);
	copy_text(record->name, sizeof record->name, input->name);
	for (size_t i = 0; i < input->n_labels; i++) {
		if (!name_is_valid(input->labels[i]))
			return error_field(err, "labels",
				"labels: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -",
				input->labels[i]);
		used += (size_t)snprintf(record->labels + used, sizeof record->labels - used,
			"%s%s", i ? "," : "", input->labels[i]);
		if (used >= sizeof record->labels || i >= LIST_MAX)
			return error_field(err, "labels",
				"labels: too many: at most %d in %zu bytes", LIST_MAX,
				sizeof record->labels - 1);
	}
	return STATUS_OK;
}

static void handle_add(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayAddRequest *input, Postern__V1__GatewayAddReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, gateways);
	struct core *core = services->core;
	struct addition *addition = calloc(1, sizeof *addition);
	struct store_txn *txn = addition ? core_decision(core) : NULL;
	struct error err = {0};
	struct entry entry;
	(void)closure;
	if (!txn)
		(void)core_no_decision(&err);
	if (err.status || parse(core, input, &addition->gateway, &err)) {
		store_txn_free(txn);
		free(addition);
		rpc_fail(data, &err);
		return;
	}
	core_entry(&entry, ENTRY_GATEWAY_ADDED, rpc_call_principal(data)->name);
	addition->services = services;
	addition->call = data;
	addition->gateway.added_us = addition->principal.added_us = entry.time_us;
	copy_text(addition->principal.name, sizeof addition->principal.name, input->name);
	copy_text(addition->principal.gateway, sizeof addition->principal.gateway, input->name);
	copy_text(entry.gateway, sizeof entry.gateway, input->name);
	addition->principal.role = RPC_ROLE_AGENT;
	token_new("agent", addition->token);
	token_hash(addition->token, addition->principal.token_hash);
	store_txn_entry(txn, &entry);
	store_txn_put_gateway(txn, &addition->gateway);
	store_txn_put_principal(txn, &addition->principal);
	core_submit(core, txn, added, addition);
}

static void handle_list(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayListRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, gateways);
	struct outbox *outbox = outbox_new(data);
	struct gateway_wire wire;
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	for (const struct gateway *gateway = services->core->first_gateway; gateway;
		gateway = gateway->next) {
		to_wire(gateway, &wire);
		outbox_add(outbox, &wire.message.base);
	}
	outbox_send(outbox);
}

static void handle_show(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayShowRequest *input, Postern__V1__Gateway_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, gateways);
	const struct gateway *gateway = gateway_find(services->core, input->name);
	struct gateway_wire wire;
	(void)closure;
	if (!gateway) {
		struct error err;
		error_reason(&err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %.60s: unknown: see `postern gateway list`", input->name);
		rpc_fail(data, &err);
		return;
	}
	to_wire(gateway, &wire);
	rpc_reply(data, &wire.message.base);
}

void gateways_service_init(struct services *services)
{
	Postern__V1__Gateways_Service service = POSTERN__V1__GATEWAYS__INIT(handle_);
	services->gateways = service;
}
