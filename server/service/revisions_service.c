#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/revision.h"
#include "server/service/policy_questions.h"
#include "server/service/uploads.h"

#define CONFIRM_LEAST_MS 10000
#define CONFIRM_MOST_MS (24ULL * 3600 * 1000)
#define GATEWAYS_MOST 4000 /* in one answer */
#define LIST_DEFAULT 100
#define LIST_MOST 1000
#define PIECE (32U * 1024) /* a window of credit stays far below what a connection may queue */

/* ---- answers ---- */

static void revision_to_wire(const struct core *core, const struct revision_record *record,
	Postern__V1__Revision *message)
{
	const struct revision_record *current = revision_current(core);
	postern__v1__revision__init(message);
	message->number = record->number;
	message->author = wire_text(record->author);
	message->time_us = record->time_us;
	message->message = wire_text(record->message);
	message->rolled_back_to = record->rolled_back_to;
	message->current = current && record->number == current->number;
	message->confirm_until_us = record->confirm_until_us;
	message->document_hash.data = (uint8_t *)(uintptr_t)record->hash;
	message->document_hash.len = sizeof record->hash;
	message->document_size = record->document_size;
	message->rules = record->rules;
}

struct effects_wire {
	Postern__V1__ChangeEffects message;
	Postern__V1__GatewayEffect *gateways, **gateway_pointers;
	struct grant_wire *grants;
	Postern__V1__Grant **grant_pointers;
};

static void effects_wire_fini(struct effects_wire *wire)
{
	free(wire->gateways);
	free(wire->gateway_pointers);
	free(wire->grants);
	free(wire->grant_pointers);
}

static bool effects_to_wire(const struct effects *effects, struct effects_wire *wire)
{
	memset(wire, 0, sizeof *wire);
	postern__v1__change_effects__init(&wire->message);
	wire->gateways = calloc(effects->gateway_count + 1, sizeof *wire->gateways);
	wire->gateway_pointers = calloc(effects->gateway_count + 1, sizeof *wire->gateway_pointers);
	wire->grants = calloc(effects->grant_count + 1, sizeof *wire->grants);
	wire->grant_pointers = calloc(effects->grant_count + 1, sizeof *wire->grant_pointers);
	if (!wire->gateways || !wire->gateway_pointers || !wire->grants || !wire->grant_pointers) {
		effects_wire_fini(wire);
		return false;
	}
	size_t gateways =
		effects->gateway_count < GATEWAYS_MOST ? effects->gateway_count : GATEWAYS_MOST;
	for (size_t i = 0; i < gateways; i++) {
		Postern__V1__GatewayEffect *gateway = &wire->gateways[i];
		postern__v1__gateway_effect__init(gateway);
		gateway->gateway = effects->gateways[i].gateway;
		gateway->grants = effects->gateways[i].grants;
		gateway->flows = effects->gateways[i].flows;
		wire->gateway_pointers[i] = gateway;
	}
	for (size_t i = 0; i < effects->grant_count; i++) {
		grant_to_wire(&effects->grants[i], 0, NULL, &wire->grants[i]);
		wire->grants[i].grant.context =
			(ProtobufCBinaryData){0}; /* the reply is one frame */
		wire->grant_pointers[i] = &wire->grants[i].grant;
	}
	wire->message.judged = effects->judged;
	wire->message.ended = effects->ended;
	wire->message.kept = effects->kept;
	wire->message.flows = effects->flows;
	wire->message.gateways = wire->gateway_pointers;
	wire->message.n_gateways = gateways;
	wire->message.grants = wire->grant_pointers;
	wire->message.n_grants = effects->grant_count;
	return true;
}

/* ---- changes ---- */

struct waiting {
	struct core *core;
	struct rpc_call *call;
};

static void gone(void *arg, enum status why)
{
	struct waiting *waiting = arg;
	struct error err;
	revision_forget(waiting->core, waiting);
	error_set(&err, why, "the caller went away: see `postern policy history`");
	rpc_fail(waiting->call, &err);
	free(waiting);
}

static struct waiting *wait_for(struct core *core, struct rpc_call *call)
{
	struct waiting *waiting = call_state_new(call, sizeof *waiting, gone);
	if (waiting)
		*waiting = (struct waiting){core, call};
	return waiting;
}

static void reply_changed(struct waiting *waiting, const struct revision_result *result)
{
	Postern__V1__ApplyReply reply = POSTERN__V1__APPLY_REPLY__INIT;
	Postern__V1__Revision revision;
	struct effects_wire effects;
	char *warnings[REVISION_WARNINGS_MAX];
	if (!effects_to_wire(&result->effects, &effects)) {
		fail_without_memory(waiting->call);
		return;
	}
	revision_to_wire(waiting->core, &result->revision, &revision);
	reply.revision = &revision;
	reply.follows = result->follows;
	reply.unchanged = result->unchanged;
	reply.effects = &effects.message;
	for (size_t i = 0; i < result->warning_count; i++)
		warnings[i] = wire_text(result->warnings[i]);
	reply.warnings = warnings;
	reply.n_warnings = result->warning_count;
	rpc_reply(waiting->call, &reply.base);
	effects_wire_fini(&effects);
}

static void on_changed(void *arg, const struct revision_result *result, const struct error *err)
{
	struct waiting *waiting = arg;
	if (err->status)
		rpc_fail(waiting->call, err);
	else
		reply_changed(waiting, result);
	free(waiting);
}

static enum status take_message(const char *text, struct revision_ask *ask, struct error *err)
{
	if (copy_text(ask->message, sizeof ask->message, text))
		return STATUS_OK;
	return error_field(err, "message", "message: %zu bytes, at most %d", strlen(text),
		RECORD_MESSAGE_SIZE - 1);
}

static void change(struct services *services, struct rpc_call *call, struct revision_ask *ask)
{
	struct waiting *waiting = wait_for(services->core, call);
	if (!waiting) {
		free(ask->packed);
		return;
	}
	copy_text(ask->author, sizeof ask->author, rpc_call_principal(call)->name);
	revision_apply(services->core, ask, on_changed, waiting);
}

static void handle_apply(Postern__V1__Revisions_Service *service,
	const Postern__V1__ApplyRequest *input, Postern__V1__ApplyReply_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct revision_ask ask = {.if_revision = input->if_revision,
		.confirm_ms = input->confirm_ms,
		.dry_run = input->dry_run};
	struct error err;
	(void)closure;
	enum status status = take_message(input->message, &ask, &err);
	if (!status && ask.confirm_ms &&
		(ask.confirm_ms < CONFIRM_LEAST_MS || ask.confirm_ms > CONFIRM_MOST_MS))
		status = error_field(&err, "confirm_ms", "confirm_ms: from 10 seconds to 24 hours");
	if (!status)
		status = uploads_take(services->uploads, rpc_call_principal(data)->name,
			input->source, &ask.packed, &ask.packed_size, &err);
	if (!status && ask.packed_size == 0)
		status = error_field(&err, "source",
			"source: the document is empty, and would deny everything: give one that "
			"has at least `on_change` or a rule");
	if (!status) {
		change(services, data, &ask);
		return;
	}
	free(ask.packed);
	rpc_fail(data, &err);
}

static void handle_rollback(Postern__V1__Revisions_Service *service,
	const Postern__V1__RollbackRequest *input, Postern__V1__ApplyReply_Closure closure,
	void *data)
{
	struct revision_ask ask = {
		.if_revision = input->if_revision, .rolled_back_to = input->revision};
	struct error err;
	(void)closure;
	enum status status = take_message(input->message, &ask, &err);
	if (!status && input->revision == 0)
		status = error_field(&err, "revision",
			"revision: say whose document is to hold again: see `postern policy "
			"history`");
	if (status)
		rpc_fail(data, &err);
	else
		change(SERVICES_OF(service, revisions), data, &ask);
}

static void on_confirmed(void *arg, const struct revision_result *result, const struct error *err)
{
	struct waiting *waiting = arg;
	Postern__V1__Revision revision;
	if (err->status) {
		rpc_fail(waiting->call, err);
	} else {
		revision_to_wire(waiting->core, &result->revision, &revision);
		rpc_reply(waiting->call, &revision.base);
	}
	free(waiting);
}

static void handle_confirm(Postern__V1__Revisions_Service *service,
	const Postern__V1__ConfirmRequest *input, Postern__V1__Revision_Closure closure, void *data)
{
	struct core *core = SERVICES_OF(service, revisions)->core;
	struct waiting *waiting = wait_for(core, data);
	(void)closure;
	if (waiting)
		revision_confirm(core, input->revision, rpc_call_principal(data)->name,
			on_confirmed, waiting);
}

static void handle_upload(Postern__V1__Revisions_Service *service,
	const Postern__V1__UploadRequest *input, Postern__V1__UploadReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	Postern__V1__UploadReply reply = POSTERN__V1__UPLOAD_REPLY__INIT;
	struct error err;
	(void)closure;
	if (uploads_add(
		    services->uploads, rpc_call_principal(data)->name, input, &reply.size, &err))
		rpc_fail(data, &err);
	else
		rpc_reply(data, &reply.base);
}

/* ---- looking back ---- */

struct listing {
	struct services *services;
	struct rpc_call *call;
	struct outbox *outbox;
	struct store_revision_query query;
	uint32_t left;
};

static void list_more(struct listing *listing);

static void on_listed(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err)
{
	struct listing *listing = arg;
	Postern__V1__Revision message;
	if (err->status) {
		outbox_fail(listing->outbox, err);
		free(listing);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		revision_to_wire(listing->services->core, &revisions[i], &message);
		outbox_add(listing->outbox, &message.base);
		listing->query.before = revisions[i].number;
	}
	listing->left -= (uint32_t)count;
	if (count == listing->query.limit && listing->left > 0 && listing->query.before > 1) {
		list_more(listing);
		return;
	}
	outbox_send(listing->outbox);
	free(listing);
}

static void list_more(struct listing *listing)
{
	listing->query.limit = listing->left < STORE_PAGE_MAX ? listing->left : STORE_PAGE_MAX;
	store_read_revisions(listing->services->core->store, &listing->query, on_listed, listing);
}

static void handle_list(Postern__V1__Revisions_Service *service,
	const Postern__V1__RevisionListRequest *input, Postern__V1__Revision_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct error err;
	(void)closure;
	if (input->limit > LIST_MOST || input->before > INT64_MAX) {
		error_field(&err, "limit", "limit: at most %d", LIST_MOST);
		rpc_fail(data, &err);
		return;
	}
	struct outbox *outbox = outbox_new(data);
	struct listing *listing = outbox ? calloc(1, sizeof *listing) : NULL;
	if (!outbox)
		return;
	if (!listing) {
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		outbox_fail(outbox, &err);
		return;
	}
	*listing = (struct listing){.services = services,
		.call = data,
		.outbox = outbox,
		.query = {.before = input->before},
		.left = input->limit ? input->limit : LIST_DEFAULT};
	list_more(listing);
}

struct showing {
	struct services *services;
	struct outbox *outbox;
	uint64_t number;
};

static void show(struct showing *showing, const struct revision_record *record)
{
	Postern__V1__DocumentPiece piece;
	Postern__V1__Revision revision;
	size_t at = 0;
	revision_to_wire(showing->services->core, record, &revision);
	do {
		size_t size = record->document_size - at;
		postern__v1__document_piece__init(&piece);
		piece.revision = at == 0 ? &revision : NULL;
		piece.data.len = size < PIECE ? size : PIECE;
		piece.data.data = record->document + at;
		outbox_add(showing->outbox, &piece.base);
		at += piece.data.len;
	} while (at < record->document_size);
	outbox_send(showing->outbox);
}

static void on_shown(
	void *arg, const struct revision_record *revisions, size_t count, const struct error *err)
{
	struct showing *showing = arg;
	struct error failure = *err;
	if (!failure.status && count == 0) {
		error_set(&failure, STATUS_NOT_FOUND,
			"revision: there is no revision %llu: see `postern policy history`",
			(unsigned long long)showing->number);
		copy_text(failure.field, sizeof failure.field, "revision");
	}
	if (failure.status)
		outbox_fail(showing->outbox, &failure);
	else
		show(showing, &revisions[0]);
	free(showing);
}

static void handle_show(Postern__V1__Revisions_Service *service,
	const Postern__V1__RevisionShowRequest *input, Postern__V1__DocumentPiece_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, revisions);
	struct outbox *outbox = outbox_new(data);
	struct showing *showing = outbox ? calloc(1, sizeof *showing) : NULL;
	struct error err;
	(void)closure;
	if (!outbox)
		return;
	if (!showing || input->revision > INT64_MAX) {
		error_set(&err, showing ? STATUS_NOT_FOUND : STATUS_RESOURCE_EXHAUSTED,
			showing ? "revision: there is no such revision"
				: "the server is out of memory");
		outbox_fail(outbox, &err);
		free(showing);
		return;
	}
	*showing = (struct showing){.services = services,
		.outbox = outbox,
		.number = input->revision ? input->revision
					  : revision_current(services->core)->number};
	const struct store_revision_query query = {.number = showing->number, .limit = 1};
	store_read_revisions(services->core->store, &query, on_shown, showing);
}

enum status revisions_service_init(struct services *services, struct error *err)
{
	Postern__V1__Revisions_Service service = POSTERN__V1__REVISIONS__INIT(handle_);
	services->revisions = service;
	services->uploads = uploads_new(services->core->loop);
	if (services->uploads)
		return STATUS_OK;
	return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

void revisions_service_fini(struct services *services)
{
	uploads_free(services->uploads);
	services->uploads = NULL;
}
