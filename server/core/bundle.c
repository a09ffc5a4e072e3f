/* A member's request id follows from the bundle's id and its index, so each finds its grant as any
 * retried request does (I6): in memory by that id, on disk by the unique index, which undoes the
 * whole transaction. What is of the past is then read member by member. */
#include "server/core/bundle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/request.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

/* ---- waiting ---- */

void bundle_name_member(struct error *err, size_t index)
{
	struct error named = *err;
	(void)snprintf(named.text, sizeof named.text, "grants[%zu]%s%.300s", index,
		err->field[0] && strncmp(err->text, err->field, strlen(err->field)) == 0 ? "."
											 : ": ",
		err->text);
	if (err->field[0])
		(void)snprintf(
			named.field, sizeof named.field, "grants[%zu].%.20s", index, err->field);
	*err = named;
}

/* What says most: a member that only ended because of another one says little. */
static int weight(const struct error *err)
{
	return !err->status                            ? 0
		: err->reason == REASON_ALREADY_ENDED  ? 1
		: err->status == STATUS_ALREADY_EXISTS ? 2
						       : 3;
}

static void finish(struct bundle_waiter *waiter)
{
	size_t worst = 0;
	for (size_t i = 1; i < waiter->count; i++)
		if (weight(&waiter->members[i].err) > weight(&waiter->members[worst].err))
			worst = i;
	struct error err = waiter->members[worst].err;
	if (err.status)
		bundle_name_member(&err, worst);
	waiter->done(waiter->arg, waiter, &err);
}

static bool has_failed(const struct bundle_waiter *waiter)
{
	for (size_t i = 0; i < waiter->count; i++)
		if (waiter->members[i].err.status)
			return true;
	return false;
}

static void close_member(struct bundle_waiter *waiter);

/* All or none: the gateway may have opened some of them. */
static void wait_until_closed(struct bundle_waiter *waiter)
{
	waiter->closing = true;
	waiter->open = 1;
	for (size_t i = 0; i < waiter->count; i++) {
		struct bundle_member *member = &waiter->members[i];
		if (!member->grant || !member->grant->ended || grant_is_closed(member->grant))
			continue;
		waiter->open++;
		member->waiter.until = UNTIL_CLOSED;
		waiter_add(member->grant, &member->waiter);
	}
	close_member(waiter);
}

static void close_member(struct bundle_waiter *waiter)
{
	if (--waiter->open > 0 || waiter->left)
		return;
	if (!waiter->closing && has_failed(waiter))
		wait_until_closed(waiter);
	else
		finish(waiter);
}

static void on_member(void *arg, const struct grant *grant, const struct error *err)
{
	struct bundle_member *member = arg;
	if (member->owner->closing) {
		close_member(member->owner);
		return;
	}
	member->grant = (struct grant *)(uintptr_t)grant;
	member->err = *err;
	grant_hold(member->grant);
	close_member(member->owner);
}

/* One more than the members is open, until close_member() ends the call that begins. */
static void begin_waiting(struct bundle_waiter *waiter, const struct id *bundle, size_t count,
	enum waiter_until until)
{
	waiter->bundle = *bundle;
	waiter->count = count;
	waiter->open = count + 1;
	for (size_t i = 0; i < count; i++) {
		struct bundle_member *member = &waiter->members[i];
		member->owner = waiter;
		member->waiter.done = on_member;
		member->waiter.arg = member;
		member->waiter.until = until;
	}
}

void bundle_waiter_fini(struct bundle_waiter *waiter)
{
	for (size_t i = 0; i < waiter->count; i++) {
		if (waiter->members[i].grant)
			grant_release(waiter->members[i].grant);
		waiter->members[i].grant = NULL;
	}
}

void bundle_leave(struct bundle_waiter *waiter, enum leaving why)
{
	waiter->left = true;
	for (size_t i = 0; i < waiter->count; i++)
		waiter_leave(&waiter->members[i].waiter, why);
}

/* ---- the decision ---- */

struct decision {
	struct core *core;
	size_t count, denied; /* index of the denied one; count = none */
	struct grant *grants[BUNDLE_MAX];
};

static void release_all(struct decision *decision)
{
	for (size_t i = 0; i < decision->count; i++)
		if (decision->grants[i])
			grant_release(decision->grants[i]);
	free(decision);
}

static void answer_all(struct decision *decision, const struct error *err)
{
	for (size_t i = 0; i < decision->count; i++)
		grant_answer(decision->grants[i], UNTIL_NEVER, err);
	release_all(decision);
}

/* The bundle's rows: more than were asked for now is another bundle. */
static void on_known_bundle(
	void *arg, const struct grant_record *found, size_t count, const struct error *err)
{
	struct decision *decision = arg;
	struct error failure = *err;
	if (!failure.status && count > decision->count)
		(void)request_used_for_another(&found[0].id, &failure);
	if (failure.status) {
		answer_all(decision, &failure);
		return;
	}
	for (size_t i = 0; i < decision->count; i++)
		request_look_up(decision->grants[i]);
	release_all(decision);
}

static void look_up(struct decision *decision)
{
	const struct grant_record *record = &decision->grants[0]->record;
	struct store_grant_query query = {.bundle = record->bundle, .limit = BUNDLE_MAX + 1};
	copy_text(query.filter, sizeof query.filter, record->filter);
	store_read_grants(decision->core->store, &query, on_known_bundle, decision);
}

/* One is denied: nothing was asked of the others. */
static void answer_denied(struct decision *decision, const struct error *err)
{
	struct error spared;
	error_reason(&spared, STATUS_ABORTED, REASON_ALREADY_ENDED, "another one was denied");
	for (size_t i = 0; i < decision->count; i++)
		if (i != decision->denied)
			grant_answer(decision->grants[i], UNTIL_NEVER, &spared);
	request_decided(decision->grants[decision->denied], err);
	decision->grants[decision->denied] = NULL;
	release_all(decision);
}

static void on_decided(void *arg, uint64_t sequence, const struct error *err)
{
	struct decision *decision = arg;
	bool is_denied = decision->denied < decision->count;
	(void)sequence;
	if (err->status == STATUS_ALREADY_EXISTS && !decision->core->stopping) {
		for (size_t i = 0; i < decision->count; i++)
			request_withdraw(decision->grants[i]);
		look_up(decision);
		return;
	}
	if (is_denied && !err->status) {
		answer_denied(decision, err);
		return;
	}
	for (size_t i = 0; i < decision->count; i++) {
		struct grant *grant = decision->grants[i];
		grant_hold(grant);
		grant->door.with_next = i + 1 < decision->count;
		request_decided(grant, err);
		if (grant->door.place == WANTED_OUT)
			grant->door.with_next = false;
		grant_release(grant);
	}
	free(decision);
}

/* ---- asked ---- */

static void complete(struct examined *examined, const struct id *bundle, size_t index)
{
	examined->record.bundle = *bundle;
	examined->record.request_id = id_derive(bundle, (uint8_t)index);
}

/* It would wait behind itself. */
static enum status check_distinct(const struct examined *examined, size_t index, struct error *err)
{
	struct line_key key = grant_line_key(&examined[index].record);
	for (size_t i = 0; i < index; i++) {
		struct line_key other = grant_line_key(&examined[i].record);
		if (line_key_equal(&key, &other))
			return error_field(err,
				examined[index].record.inbound ? "client_port" : "remote_port",
				"the same door as grants[%zu]: ask for one with max_connections",
				i);
	}
	return STATUS_OK;
}

static enum status examine_all(struct core *core, const struct id *bundle,
	const struct grant_ask *asks, size_t count, struct examined *examined, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		enum status status = request_examine(core, &asks[i], &examined[i], err);
		if (!status && examined[i].gateway != examined[0].gateway)
			status = error_field(err, "gateway",
				"gateway: %s, but the first one's is %s: a bundle is of one "
				"gateway",
				examined[i].record.gateway, examined[0].record.gateway);
		if (!status)
			status = check_distinct(examined, i, err);
		if (status) {
			bundle_name_member(err, i);
			return status;
		}
		complete(&examined[i], bundle, i);
	}
	return STATUS_OK;
}

static struct grant *find_member(
	const struct core *core, const char *filter, const struct id *bundle, size_t index)
{
	struct id id = id_derive(bundle, (uint8_t)index);
	return grant_find_request(core, filter, &id);
}

static size_t count_known(const struct core *core, const struct examined *examined, size_t count)
{
	size_t known = 0;
	for (size_t i = 0; i < count; i++)
		known += grant_find_request(core, examined[i].record.filter,
				 &examined[i].record.request_id) != NULL;
	return known;
}

/* Some of it is in memory, so it was asked for before. The others are of the past, or never were.
 */
static enum status join(struct core *core, const struct id *bundle, const struct grant_ask *asks,
	size_t count, struct examined *examined, struct bundle_waiter *waiter, struct error *err)
{
	const char *filter = examined[0].record.filter;
	struct grant *grants[BUNDLE_MAX], *ghosts[BUNDLE_MAX] = {NULL};
	if (count < BUNDLE_MAX && find_member(core, filter, bundle, count))
		return request_used_for_another(NULL, err);
	for (size_t i = 0; i < count; i++) {
		grants[i] = find_member(core, filter, bundle, i);
		if (grants[i] && !request_is_same(grants[i], &asks[i], &examined[i].record)) {
			(void)request_used_for_another(&grants[i]->record.id, err);
			bundle_name_member(err, i);
			return err->status;
		}
	}
	for (size_t i = 0; i < count; i++) {
		ghosts[i] = grants[i] ? NULL : request_make_ghost(core, &asks[i], &examined[i]);
		if (grants[i] || ghosts[i])
			continue;
		while (i-- > 0)
			if (ghosts[i])
				request_unmake(ghosts[i]);
		return core_no_decision(err);
	}
	begin_waiting(waiter, bundle, count, asks[0].until);
	for (size_t i = 0; i < count; i++) {
		if (grants[i]) {
			request_join(grants[i], &asks[i], &waiter->members[i].waiter);
			continue;
		}
		waiter_add(ghosts[i], &waiter->members[i].waiter);
		request_look_up(ghosts[i]);
	}
	close_member(waiter);
	return STATUS_OK;
}

static void unmake_all(struct decision *decision)
{
	for (size_t i = 0; i < decision->count; i++)
		if (decision->grants[i])
			request_unmake(decision->grants[i]);
	free(decision);
}

/* All of them; or the denied one, and ghosts for the others, should the bundle be of the past. */
static enum status make_all(struct core *core, const struct grant_ask *asks, size_t count,
	struct examined *examined, struct decision *decision, struct error *err)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < count && !status; i++) {
		status = request_judge(core, &examined[i], err);
		if (!status && examined[i].answer.verdict != POLICY_ALLOWED &&
			decision->denied == count)
			decision->denied = i;
		if (status)
			bundle_name_member(err, i);
	}
	for (size_t i = 0; i < count && !status; i++) {
		struct grant **grant = &decision->grants[i];
		if (decision->denied == count || decision->denied == i)
			status = request_make(core, &asks[i], &examined[i], grant, err);
		else if (!(*grant = request_make_ghost(core, &asks[i], &examined[i])))
			status = core_no_decision(err);
		if (status)
			bundle_name_member(err, i);
	}
	return status;
}

static enum status decide(struct core *core, const struct id *bundle, const struct grant_ask *asks,
	size_t count, struct examined *examined, struct bundle_waiter *waiter, struct error *err)
{
	struct decision *decision = calloc(1, sizeof *decision);
	struct store_txn *txn = decision ? core_decision(core) : NULL;
	enum status status = STATUS_OK;
	if (!txn) {
		free(decision);
		return core_no_decision(err);
	}
	*decision = (struct decision){.core = core, .count = count, .denied = count};
	status = request_check_quota(core, &asks[0], count, err);
	if (!status)
		status = make_all(core, asks, count, examined, decision, err);
	if (status) {
		store_txn_free(txn);
		unmake_all(decision);
		return status;
	}
	begin_waiting(waiter, bundle, count, asks[0].until);
	for (size_t i = 0; i < count; i++) {
		waiter_add(decision->grants[i], &waiter->members[i].waiter);
		if (decision->denied == count || decision->denied == i)
			request_add(decision->grants[i], &asks[i], &examined[i], txn);
		else
			grant_hold(decision->grants[i]);
	}
	core_submit_first(core, txn, on_decided, decision);
	close_member(waiter);
	return STATUS_OK;
}

enum status core_request_bundle(struct core *core, const struct id *bundle,
	const struct grant_ask *asks, size_t count, struct bundle_waiter *waiter, struct error *err)
{
	struct examined *examined = calloc(count, sizeof *examined);
	struct id id = id_is_zero(bundle) ? id_new() : *bundle;
	assert(count > 0 && count <= BUNDLE_MAX);
	if (!examined)
		return core_no_decision(err);
	enum status status = examine_all(core, &id, asks, count, examined, err);
	if (!status && count_known(core, examined, count) > 0)
		status = join(core, &id, asks, count, examined, waiter, err);
	else if (!status)
		status = decide(core, &id, asks, count, examined, waiter, err);
	free(examined);
	return status;
}

/* ---- ended ---- */

struct ending {
	size_t count;
	struct grant *grants[BUNDLE_MAX];
};

static void on_ended(void *arg, uint64_t sequence, const struct error *err)
{
	struct ending *ending = arg;
	(void)sequence;
	for (size_t i = 0; i < ending->count; i++)
		change_decided(ending->grants[i], err);
	free(ending);
}

/* Those that live or, for a cut, have open flows. */
static size_t find_endable(const struct core *core, const struct id *bundle, const char *filter,
	bool cut, struct grant *ret_grants[static BUNDLE_MAX])
{
	size_t count = 0;
	for (size_t i = 0; i < BUNDLE_MAX; i++) {
		struct grant *grant = find_member(core, filter, bundle, i);
		bool flows = grant && (grant->open_flows > 0 || grant->record.cut);
		if (grant && (!grant->ended || (cut && flows)))
			ret_grants[count++] = grant;
	}
	return count;
}

enum status core_cancel_bundle(struct core *core, const struct id *bundle, const char *filter,
	enum end_reason reason, const char *actor, bool cut, struct bundle_waiter *waiter,
	struct error *err)
{
	struct grant *grants[BUNDLE_MAX];
	struct error one;
	size_t count = find_endable(core, bundle, filter, cut, grants);
	if (count == 0)
		return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"every grant of the bundle has already ended");
	struct ending *ending = calloc(1, sizeof *ending);
	struct store_txn *txn = ending ? core_decision(core) : NULL;
	if (!txn) {
		free(ending);
		return core_no_decision(err);
	}
	begin_waiting(waiter, bundle, count, cut ? UNTIL_CUT : UNTIL_CLOSED);
	for (size_t i = 0; i < count; i++) {
		struct waiter *each = &waiter->members[i].waiter;
		if (change_is_free(grants[i])) {
			waiter_add(grants[i], each);
			change_add_end(grants[i], reason, actor, cut, txn);
			ending->grants[ending->count++] = grants[i];
		} else if (core_cancel(core, grants[i], reason, actor, cut, each, &one)) {
			on_member(&waiter->members[i], grants[i], &(struct error){0}); /* ending */
		}
	}
	if (ending->count > 0) {
		core_submit(core, txn, on_ended, ending);
	} else {
		store_txn_free(txn);
		free(ending);
	}
	close_member(waiter);
	return STATUS_OK;
}

/* Those that are not installed either have missed the same deadline. */
static void end_other(struct grant *other, enum end_reason why, struct facts *facts)
{
	static const char text[] = "another one of its bundle failed";
	bool missed = why == END_DEADLINE_MISSED && other->record.state == GRANT_PENDING;
	enum end_reason reason = missed ? END_DEADLINE_MISSED : END_BUNDLE_FAILED;
	if (!facts || !change_is_free(other)) {
		grant_end(other, reason, "", text);
		return;
	}
	grant_end_in_memory(other, reason);
	grant_journal_end_in(other, text, facts);
}

void bundle_end_failed(struct grant *grant, const char *detail)
{
	const struct grant_record *record = &grant->record;
	struct facts *facts = facts_new(grant->core);
	if (facts)
		grant_journal_end_in(grant, detail, facts);
	else
		grant_journal_end(grant, "", detail);
	for (size_t i = 0; i < BUNDLE_MAX; i++) {
		struct grant *other = find_member(grant->core, record->filter, &record->bundle, i);
		if (other && other != grant && !other->ended)
			end_other(other, (enum end_reason)record->reason, facts);
	}
	if (facts)
		facts_submit(facts, false, NULL, NULL);
}
