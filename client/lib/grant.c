/* Single grants: asking (connect, accept, reserve), committing, renewing, ending. */
#include <string.h>

#include "client/lib/grant_message.h"
#include "common/id.h"

static void on_answer(
	const struct call *call, const ProtobufCMessage *reply, const struct error *err)
{
	const struct call_spec *spec = call_spec_of(call);
	struct postern_grant grant = {0};
	struct postern_error told;
	struct error outcome = *err;

	if (outcome.status == STATUS_OK)
		grant_message_read((const Postern__V1__GrantReply *)reply, &grant, &outcome);
	error_publish(&outcome, &told);
	if (spec->on_grant)
		spec->on_grant(spec->arg, told.status == POSTERN_OK ? &grant : NULL, &told);
}

/* ---- asking ---- */

static enum postern_status ask(struct postern *postern, const struct postern_bundle_item *item,
	bool reserve, postern_grant_cb cb, void *arg, struct postern_error *ret_err)
{
	struct grant_message message;
	struct grant_terms terms;
	char request_id[ID_TEXT_SIZE];
	struct call_spec spec = {
		.service = &postern__v1__grants__descriptor,
		.method = "Request",
		.request = &message.wire.base,
		.repeats = true,
		.undo = UNDO_REQUEST,
		.undo_id = request_id,
		.done = on_answer,
		.on_grant = cb,
		.arg = arg,
	};
	struct error err = {0};

	if (grant_message_init(&message, item, &terms, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	grant_message_id(&terms, request_id);
	message.wire.request_id = request_id;
	message.wire.wait = reserve ? POSTERN__V1__WAIT__WAIT_DECIDED : terms.wait;
	message.wire.reserve = reserve;
	spec.deadline_ms = terms.deadline_ms;
	if (call_start(postern, &spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_allow_future_connect_async(struct postern *postern,
	const struct postern_grant_request *request, postern_grant_cb cb, void *arg,
	struct postern_error *err)
{
	const struct postern_bundle_item item = {.connect = request};

	return ask(postern, &item, false, cb, arg, err);
}

enum postern_status postern_allow_future_accept_async(struct postern *postern,
	const struct postern_accept_request *request, postern_grant_cb cb, void *arg,
	struct postern_error *err)
{
	const struct postern_bundle_item item = {.accept = request};

	return ask(postern, &item, false, cb, arg, err);
}

enum postern_status postern_reserve_async(struct postern *postern,
	const struct postern_bundle_item *item, postern_grant_cb cb, void *arg,
	struct postern_error *err)
{
	return ask(postern, item, true, cb, arg, err);
}

/* ---- with a grant that there is ---- */

/* Ids are shorter than this; a longer word could not be kept to be withdrawn by. */
#define GRANT_ID_SIZE 40

static enum status check_id(const char *grant, struct error *err)
{
	if (!grant)
		return error_field(err, "grant", "no grant given");
	if (!*grant || strlen(grant) >= GRANT_ID_SIZE)
		return error_field(err, "grant", "\"%.40s\" is no id of a grant", grant);
	return STATUS_OK;
}

static enum postern_status act(struct postern *postern, const char *grant, struct call_spec *spec,
	struct postern_error *ret_err)
{
	struct error err = {0};

	spec->service = &postern__v1__grants__descriptor;
	spec->repeats = true;
	spec->done = on_answer;
	if (check_id(grant, &err) != STATUS_OK || call_start(postern, spec, &err) != STATUS_OK)
		return error_give(&err, ret_err);
	return POSTERN_OK;
}

enum postern_status postern_commit_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err)
{
	Postern__V1__GrantCommitRequest message = POSTERN__V1__GRANT_COMMIT_REQUEST__INIT;
	struct call_spec spec = {
		.method = "Commit",
		.request = &message.base,
		.undo = UNDO_GRANT,
		.undo_id = grant,
		.on_grant = cb,
		.arg = arg,
	};

	message.id = text_or_empty(grant);
	return act(postern, grant, &spec, err);
}

enum postern_status postern_renew_async(struct postern *postern, const char *grant,
	uint64_t lifetime_ms, postern_grant_cb cb, void *arg, struct postern_error *err)
{
	Postern__V1__GrantRenewRequest message = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	struct call_spec spec = {
		.method = "Renew",
		.request = &message.base,
		.on_grant = cb,
		.arg = arg,
	};

	message.id = text_or_empty(grant);
	message.lifetime_ms = lifetime_ms;
	return act(postern, grant, &spec, err);
}

static enum postern_status end(struct postern *postern, const char *grant, bool cut,
	postern_grant_cb cb, void *arg, struct postern_error *err)
{
	Postern__V1__GrantCancelRequest message = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	struct call_spec spec = {
		.method = "Cancel",
		.request = &message.base,
		.on_grant = cb,
		.arg = arg,
	};

	message.id = text_or_empty(grant);
	message.cut = cut;
	return act(postern, grant, &spec, err);
}

enum postern_status postern_cancel_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err)
{
	return end(postern, grant, false, cb, arg, err);
}

enum postern_status postern_cut_async(struct postern *postern, const char *grant,
	postern_grant_cb cb, void *arg, struct postern_error *err)
{
	return end(postern, grant, true, cb, arg, err);
}

/* ---- the same, waiting ---- */

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

enum postern_status postern_allow_future_accept(struct postern *postern,
	const struct postern_accept_request *request, struct postern_grant *ret_grant,
	struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status =
		waiter_init(&waiter, postern, "postern_allow_future_accept_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_grant = ret_grant;
	status = postern_allow_future_accept_async(
		postern, request, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_reserve(struct postern *postern, const struct postern_bundle_item *item,
	struct postern_grant *ret_grant, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status = waiter_init(&waiter, postern, "postern_reserve_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_grant = ret_grant;
	status = postern_reserve_async(postern, item, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_commit(struct postern *postern, const char *grant,
	struct postern_grant *ret_grant, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status = waiter_init(&waiter, postern, "postern_commit_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_grant = ret_grant;
	status = postern_commit_async(postern, grant, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}

enum postern_status postern_renew(struct postern *postern, const char *grant, uint64_t lifetime_ms,
	struct postern_grant *ret_grant, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status = waiter_init(&waiter, postern, "postern_renew_async", err);

	if (status != POSTERN_OK)
		return status;
	waiter.ret_grant = ret_grant;
	status = postern_renew_async(postern, grant, lifetime_ms, waiter_done_grant, &waiter, err);
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

enum postern_status postern_cut(
	struct postern *postern, const char *grant, struct postern_error *err)
{
	struct waiter waiter;
	enum postern_status status = waiter_init(&waiter, postern, "postern_cut_async", err);

	if (status != POSTERN_OK)
		return status;
	status = postern_cut_async(postern, grant, waiter_done_grant, &waiter, err);
	return waiter_wait(&waiter, status);
}
