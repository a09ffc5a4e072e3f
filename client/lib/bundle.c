/* Bundles. Its id is the request id of all its grants: a repetition gets the same bundle (I6). */
#include <stdio.h>
#include <string.h>

#include "client/lib/grant_message.h"
#include "common/id.h"

static void on_answer(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	const struct call_spec *spec = call_spec_of(call);
	struct postern_grant grants[POSTERN_BUNDLE_MAX];
	struct postern_bundle bundle = {0};
	struct postern_error told;
	struct error outcome = *err;

	if (outcome.status == STATUS_OK)
		bundle_message_read((const Postern__V1__BundleReply *)reply, spec->grant_count,
			&bundle, grants, &outcome);
	error_publish(&outcome, &told);
	if (spec->on_bundle)
		spec->on_bundle(spec->arg, told.status == POSTERN_OK ? &bundle : NULL, &told);
}

/* As the server names the grant that it finds something wrong with. */
static enum status name_grant(size_t index, struct error *err)
{
	struct error cause = *err;
	char field[sizeof(cause.field)];

	snprintf(field, sizeof(field), "grants[%zu].%.20s", index, cause.field);
	return error_field(err, field, "grants[%zu]: %.290s", index, cause.text);
}

/* What the messages are made in: 32 KiB of stack. */
struct parts {
	struct grant_message messages[POSTERN_BUNDLE_MAX];
	Postern__V1__GrantRequest *pointers[POSTERN_BUNDLE_MAX];
};

static enum status fill(const struct postern_bundle_item *items, size_t count, struct parts *parts,
	struct grant_terms *ret_terms, struct error *err)
{
	struct grant_terms terms;

	if (count == 0 || count > POSTERN_BUNDLE_MAX)
		return error_field(err, "items", "a bundle has 1 to %d grants, not %zu",
			POSTERN_BUNDLE_MAX, count);
	for (size_t i = 0; i < count; i++) {
		if (grant_message_init(&parts->messages[i], &items[i], &terms, err) != STATUS_OK)
			return name_grant(i, err);
		if (i == 0)
			*ret_terms = terms;
		parts->messages[i].wire.reservation_ms = 0;
		parts->pointers[i] = &parts->messages[i].wire;
	}
	return STATUS_OK;
}

enum postern_status postern_bundle_request_async(struct postern *postern,
	const struct postern_bundle_item *items, size_t count, postern_bundle_cb cb, void *arg,
	struct postern_error *ret_err)
{
	Postern__V1__BundleRequest message = POSTERN__V1__BUNDLE_REQUEST__INIT;
	struct parts parts;
	struct grant_terms terms;
	char id[ID_TEXT_SIZE];
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = "RequestBundle",
		.request = &message.base,
		.repeats = true,
		.undo = UNDO_BUNDLE,
		.undo_id = id,
		.grant_count = count,
		.done = on_answer,
		.on_bundle = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (fill(items, count, &parts, &terms, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	grant_message_id(&terms, id);
	message.bundle = id;
	message.grants = parts.pointers;
	message.n_grants = count;
	message.wait = terms.wait;
	spec.deadline_ms = terms.deadline_ms;
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_bundle_cancel_async(struct postern *postern, const char *bundle,
	int cut, postern_bundle_cb cb, void *arg, struct postern_error *ret_err)
{
	Postern__V1__BundleCancelRequest message = POSTERN__V1__BUNDLE_CANCEL_REQUEST__INIT;
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = "CancelBundle",
		.request = &message.base,
		.repeats = true,
		.done = on_answer,
		.on_bundle = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (!bundle) {
		error_field(&err, "bundle", "no bundle given");
		return error_give(&err, ret_err);
	}
	message.bundle = text_or_empty(bundle);
	message.cut = cut != 0;
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_bundle_request(struct postern *postern,
	const struct postern_bundle_item *items, size_t count, char ret_id[40],
	struct postern_grant *ret_grants, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_bundle_request_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_bundle = ret_id;
	waiter.ret_grants = ret_grants;
	status = postern_bundle_request_async(
		postern, items, count, waiter_done_bundle, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_bundle_cancel(
	struct postern *postern, const char *bundle, int cut, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_bundle_cancel_async", err);

	if (status != POSTERN_OK)
		return status;
	status =
		postern_bundle_cancel_async(postern, bundle, cut, waiter_done_bundle, &waiter, err);
	return waiter_wait(&waiter, status);
}
