/* Decisions about grants: may this filter have this door, and is the caller right to close it
 * again.
 *
 * A request id is looked for in memory only. An id that belongs to a grant of the past is found by
 * the disk: the insertion hits the unique index, the whole transaction is undone, and the grant of
 * that id is read and answered instead (I6). So a new request never waits for a read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

static void fill_decision(const struct grant *grant, struct entry *ret_entry)
{
	const struct grant_record *record = &grant->record;
	struct entry *entry = ret_entry;
	grant_fill_entry(
		grant, record->state == GRANT_DENIED ? ENTRY_DENIED : ENTRY_GRANTED, entry);
	copy_text(entry->actor, sizeof entry->actor, record->filter);
	copy_text(entry->rule, sizeof entry->rule, record->rule);
	entry->external = record->external;
	entry->flags = record->flags;
	entry->lifetime_ms = record->lifetime_ms;
	entry->max_connections = record->max_connections;
	entry->request_id = record->request_id;
	entry->reason = record->reason;
	entry->context = record->context;
	entry->context_size = record->context_size;
}

static enum status used_for_another(const struct id *grant, struct error *err)
{
	error_set(err, STATUS_ALREADY_EXISTS,
		"request_id: it was used for a different request: make a new one for each request");
	copy_text(err->field, sizeof err->field, "request_id");
	id_format(grant, err->grant);
	return STATUS_ALREADY_EXISTS;
}

/* ---- an id of the past ---- */

static void on_known_request(
	void *arg, const struct grant_record *found, size_t count, const struct error *err)
{
	struct grant *grant = arg;
	struct error result = *err;
	if (!err->status && count == 0) {
		error_set(&result, STATUS_INTERNAL,
			"request_id: the database knows it, but not its grant: report this");
	} else if (!err->status &&
		!grant_same_request(found, &grant->record, grant->lifetime_given)) {
		(void)used_for_another(&found->id, &result);
	} else if (!err->status) {
		free(grant->record.context);
		grant->record = *found;
		grant->record.context = NULL;
		grant->record.context_size = 0;
		(void)grant_verdict(&grant->record, &result);
	}
	grant_answer(grant, UNTIL_GONE, &result);
	grant_release(grant);
}

/* Nothing of it is on disk: as if it had never been asked for. */
static void decision_refused(struct grant *grant, const struct error *err)
{
	const struct grant_record *record = &grant->record;
	bool known = err->status == STATUS_ALREADY_EXISTS && !id_is_zero(&record->request_id);
	if (record->state != GRANT_DENIED)
		grant_end_in_memory(grant, END_DEADLINE_MISSED);
	grant->end_committed = grant->ended = true;
	grant_leave_books(grant);
	session_remove_grant(grant);
	if (!known || grant->core->stopping) {
		grant_answer(grant, UNTIL_GONE, err);
		return;
	}
	struct store_grant_query query = {.request_id = record->request_id, .limit = 1};
	copy_text(query.filter, sizeof query.filter, record->filter);
	grant_hold(grant);
	store_read_grants(grant->core->store, &query, on_known_request, grant);
}

/* ---- decided ---- */

static void on_granted(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	struct error none = {0};
	(void)sequence;
	grant->timing.commit_us = (uint64_t)(clock_mono_us() - grant->handed_us);
	if (err->status) {
		decision_refused(grant, err);
	} else {
		grant->committed = true;
		if (grant->wish) {
			grant_apply_wish(grant);
		} else {
			grant_answer(grant, UNTIL_DECIDED, &none);
			grant_arm(grant);
		}
	}
	grant_release(grant);
}

static void on_denied(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	struct error denial = {0};
	(void)sequence;
	if (err->status) {
		decision_refused(grant, err);
	} else {
		grant->committed = grant->end_committed = true;
		(void)grant_verdict(&grant->record, &denial);
		grant_answer(grant, UNTIL_GONE, &denial);
	}
	grant_release(grant);
}

/* ---- asked ---- */

/* What was found out about a request, before it becomes a grant. */
struct examined {
	struct grant_record record;
	struct session *session;
	struct gateway *gateway;
	const struct protocol_record *protocol;
};

static enum status examine_session(struct core *core, const struct grant_ask *ask,
	struct examined *examined, struct error *err)
{
	struct grant_record *record = &examined->record;
	struct session *session = session_find(core, &record->session);
	if (!session || (!ask->is_admin && strcmp(session->record.filter, record->filter) != 0))
		return error_field(err, "session",
			"session: no open session of yours has this id: open one first");
	if (record->client.family == ADDR_NONE)
		record->client = session->record.client;
	if (record->gateway[0] == '\0')
		copy_text(record->gateway, sizeof record->gateway, session->record.gateway);
	if (!addr_equal(&record->client, &session->record.client))
		return error_field(err, "client", "client: differs from the session's client");
	if (strcmp(record->gateway, session->record.gateway) != 0)
		return error_field(err, "gateway", "gateway: differs from the session's gateway %s",
			session->record.gateway);
	examined->session = session;
	return STATUS_OK;
}

static enum status check_scope(
	const struct grant_ask *ask, const struct grant_record *record, struct error *err)
{
	const struct principal *asker = ask->asker;
	if (!asker || principal_covers(asker, record->gateway))
		return STATUS_OK;
	return error_reason(err, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE,
		"filter %s may not ask for doors of gateway %s: its scope is %.150s",
		asker->record.name, record->gateway, asker->record.gateways);
}

/* Completes the record from session, defaults and definitions, or says what is wrong with it. */
static enum status examine(struct core *core, const struct grant_ask *ask,
	struct examined *examined, struct error *err)
{
	struct grant_record *record = &examined->record;
	const struct server_config *config = core->config;
	enum status status = STATUS_OK;
	if (!id_is_zero(&record->session))
		status = examine_session(core, ask, examined, err);
	else if (record->gateway[0] == '\0')
		status = error_field(err, "gateway", "gateway: name one, or a session");
	if (!status)
		status = check_scope(ask, record, err);
	if (status)
		return status;
	examined->gateway = gateway_find(core, record->gateway);
	if (!examined->gateway)
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %s: unknown: see `postern gateway list`", record->gateway);
	examined->protocol = policy_find_protocol(&core->policy, ask->protocol);
	if (!examined->protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not registered: see `postern protocol list`",
			ask->protocol);
	copy_text(record->protocol, sizeof record->protocol, examined->protocol->name);
	struct grant_limits limits = {.default_lifetime_ms = config->default_lifetime_ms,
		.max_lifetime_ms = config->max_lifetime_ms,
		.unused_timeout_ms = config->unused_timeout_ms};
	return grant_complete(record, &limits, err);
}

static enum status check_quota(
	const struct core *core, const struct grant_ask *ask, struct error *err)
{
	const struct principal *asker = ask->asker;
	if (!asker)
		return STATUS_OK;
	uint64_t most = asker->record.max_grants ? asker->record.max_grants
						 : core->config->max_live_grants_per_filter;
	if (asker->live_grants < most)
		return STATUS_OK;
	return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
		"filter %s has %llu live grants, its limit: cancel some or wait for their end",
		asker->record.name, (unsigned long long)most);
}

static int64_t deadline_of(const struct core *core, const struct grant_ask *ask)
{
	if (ask->until == UNTIL_DECIDED)
		return CLOCK_NEVER;
	return ask->deadline_us != CLOCK_NEVER
		? ask->deadline_us
		: clock_mono_us() + (int64_t)core->config->request_deadline_ms * 1000;
}

/* A repeated request: its caller waits with the others, or gets what the first one got. */
static enum status join_request(struct grant *grant, const struct grant_ask *ask,
	const struct grant_record *record, struct waiter *waiter, struct error *err)
{
	struct error verdict = {0};
	if (!grant_same_request(&grant->record, record, ask->record.lifetime_ms != 0))
		return used_for_another(&grant->record.id, err);
	bool installed = grant->record.state == GRANT_ACTIVE;
	bool settled = grant->ended
		? grant->end_committed
		: installed || (ask->until == UNTIL_DECIDED && grant->committed);
	if (settled) {
		(void)grant_verdict(&grant->record, &verdict);
		waiter->done(waiter->arg, grant, &verdict);
		return STATUS_OK;
	}
	int64_t deadline = deadline_of(grant->core, ask);
	if (grant->deadline_us != CLOCK_NEVER && deadline > grant->deadline_us) {
		grant->deadline_us = deadline; /* never, if this one only wants the decision */
		if (!grant->ended && grant->committed && !grant->wish)
			grant_watch_clock(grant);
	}
	waiter->until = ask->until;
	waiter_add(grant, waiter);
	return STATUS_OK;
}

static bool copy_context(struct grant_record *record, const uint8_t *context)
{
	if (record->context_size == 0) {
		record->context = NULL;
		return true;
	}
	record->context = malloc(record->context_size);
	if (record->context)
		memcpy(record->context, context, record->context_size);
	return record->context != NULL;
}

/* A grant, in the books but not on disk. NULL: memory. */
static struct grant *make_grant(struct core *core, const struct grant_ask *ask,
	struct examined *examined, enum policy_verdict verdict, const struct rule_record *rule)
{
	struct grant_record *record = &examined->record;
	record->id = id_new();
	record->created_us = clock_real_us();
	record->expires_us = record->created_us + (int64_t)record->lifetime_ms * 1000;
	record->state = GRANT_PENDING;
	copy_text(record->rule, sizeof record->rule, rule ? rule->name : "");
	if (verdict != POLICY_ALLOWED) {
		record->state = GRANT_DENIED;
		record->reason = verdict == POLICY_DENIED_BY_PROTOCOL_RULES
			? END_DENIED_PROTOCOL_RULES
			: END_DENIED_SITE_AND_CONTENT_RULES;
		record->ended_us = record->created_us;
	}
	if (!copy_context(record, ask->record.context))
		return NULL;
	struct grant *grant = grant_new(core, record, examined->gateway, ask->asker);
	if (!grant) {
		free(record->context);
		return NULL;
	}
	grant->lifetime_given = ask->record.lifetime_ms != 0;
	grant->ended = verdict != POLICY_ALLOWED;
	grant->deadline_us = deadline_of(core, ask);
	return grant;
}

static void unmake_grant(struct grant *grant)
{
	grant_hold(grant);
	if (!grant->ended)
		grant_end_in_memory(grant, END_DEADLINE_MISSED);
	grant->end_committed = true;
	session_remove_grant(grant);
	grant_release(grant);
}

static void submit_request(struct grant *grant, const struct grant_ask *ask, struct store_txn *txn)
{
	struct entry entry;
	fill_decision(grant, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant->record);
	grant_hold(grant);
	grant->handed_us = clock_mono_us();
	grant->timing.decide_us = (uint64_t)(grant->handed_us - ask->began_us);
	core_submit_first(grant->core, txn, grant->ended ? on_denied : on_granted, grant);
}

enum status core_request(
	struct core *core, const struct grant_ask *ask, struct waiter *waiter, struct error *err)
{
	struct examined examined = {.record = ask->record};
	const struct rule_record *rule;
	enum status status = examine(core, ask, &examined, err);
	if (status)
		return status;
	struct grant *grant =
		grant_find_request(core, examined.record.filter, &examined.record.request_id);
	if (grant)
		return join_request(grant, ask, &examined.record, waiter, err);
	status = check_quota(core, ask, err);
	if (status)
		return status;
	enum policy_verdict verdict = policy_decide(&core->policy, examined.protocol, &rule);
	bool allowed = verdict == POLICY_ALLOWED;
	if (allowed && !gateway_is_up(examined.gateway))
		return error_reason(err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
			"gateway %s is not connected: its agent must reach the server",
			examined.record.gateway);
	grant = make_grant(core, ask, &examined, verdict, rule);
	if (!grant)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	struct store_txn *txn = core_decision(core);
	if (!txn || (allowed && !grant_become_live(grant, examined.session))) {
		store_txn_free(txn);
		unmake_grant(grant);
		return core_no_decision(err);
	}
	waiter->until = ask->until;
	waiter_add(grant, waiter);
	if (allowed)
		grant_watch_clock(grant);
	if (examined.session)
		session_touch(examined.session);
	submit_request(grant, ask, txn);
	return STATUS_OK;
}

/* ---- cancelled ---- */

static void on_cancelled(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	struct store_txn *txn;
	(void)sequence;
	grant->cancelling = false;
	if (!err->status) {
		grant->wish = 0;
		grant_end_in_memory(grant, (enum end_reason)grant->cancel_reason);
		grant_end_is_on_disk(grant);
	} else {
		/* Rows that were written meanwhile spoke of a cancelled grant. */
		txn = core_fact(grant->core);
		if (txn) {
			grant_put_row(grant, txn);
			core_submit(grant->core, txn, NULL, NULL);
		}
		grant_fail_cancellers(grant, err);
		grant_apply_wish(grant);
	}
	grant_release(grant);
}

enum status core_cancel(struct core *core, struct grant *grant, enum end_reason reason,
	const char *actor, struct waiter *waiter, struct error *err)
{
	struct store_txn *txn;
	waiter->until = UNTIL_GONE;
	if (grant->ended || grant->wish) {
		error_reason(err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"the grant has already ended: %s",
			end_reason_name((enum end_reason)(
				grant->ended ? grant->record.reason : grant->wish)));
		id_format(&grant->record.id, err->grant);
		return err->status;
	}
	if (grant->cancelling) {
		waiter_add(grant, waiter);
		return STATUS_OK;
	}
	if (!grant->committed) {
		waiter_add(grant, waiter);
		grant_end(grant, reason, actor, "");
		return STATUS_OK;
	}
	txn = core_decision(core);
	if (!txn)
		return core_no_decision(err);
	grant->cancelling = true;
	grant->cancel_reason = (uint8_t)reason;
	grant_add_ended(grant, reason, actor, "", txn);
	waiter_add(grant, waiter);
	grant_hold(grant);
	core_submit(core, txn, on_cancelled, grant);
	return STATUS_OK;
}
