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
#include "server/core/request.h"
#include "server/core/revision.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
#include "server/policy/bounds.h"

static void fill_decision(
	const struct grant *grant, const struct policy_answer *answer, struct entry *ret_entry)
{
	const struct grant_record *record = &grant->record;
	struct entry *entry = ret_entry;
	enum entry_kind kind = record->state == GRANT_DENIED ? ENTRY_DENIED
		: record->state == GRANT_RESERVED            ? ENTRY_RESERVED
							     : ENTRY_GRANTED;
	grant_fill_entry(grant, kind, entry);
	copy_text(entry->actor, sizeof entry->actor, record->filter);
	copy_text(entry->rule, sizeof entry->rule, record->rule);
	copy_text(entry->site_rule, sizeof entry->site_rule, record->site_rule);
	copy_text(entry->staged_rule, sizeof entry->staged_rule, answer->staged_rule);
	copy_text(entry->user, sizeof entry->user, record->user);
	entry->revision = record->revision;
	entry->flags = record->flags;
	entry->lifetime_ms = record->lifetime_ms;
	entry->max_connections = record->max_connections;
	entry->request_id = record->request_id;
	entry->reason = record->reason;
	entry->context = record->context;
	entry->context_size = record->context_size;
}

enum status request_used_for_another(const struct id *grant, struct error *err)
{
	error_set(err, STATUS_ALREADY_EXISTS,
		"request_id: it was used for a different request: make a new one for each request");
	copy_text(err->field, sizeof err->field, "request_id");
	if (grant)
		id_format(grant, err->grant);
	return STATUS_ALREADY_EXISTS;
}

/* ---- an id of the past ---- */

static void take_found(struct grant *grant, const struct grant_record *found, struct error *err)
{
	if (!grant_same_request(found, &grant->record, grant->lifetime_given)) {
		(void)request_used_for_another(&found->id, err);
		return;
	}
	grant_record_fini(&grant->record);
	bool copied = grant_record_copy(&grant->record, found);
	grant->record.cut = false; /* not this stand-in's to wait for */
	if (copied)
		(void)grant_verdict(&grant->record, err);
	else
		error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
}

static void on_known_request(
	void *arg, const struct grant_record *found, size_t count, const struct error *err)
{
	struct grant *grant = arg;
	struct error result = *err;
	if (!err->status && count > 0)
		take_found(grant, found, &result);
	else if (!err->status && !id_is_zero(&grant->record.bundle))
		(void)request_used_for_another(NULL, &result); /* another bundle of this id */
	else if (!err->status)
		error_set(&result, STATUS_INTERNAL,
			"request_id: the database knows it, but not its grant: report this");
	grant_answer(grant, UNTIL_NEVER, &result);
	grant_release(grant);
}

void request_look_up(struct grant *grant)
{
	struct store_grant_query query = {.request_id = grant->record.request_id, .limit = 1};
	copy_text(query.filter, sizeof query.filter, grant->record.filter);
	grant_hold(grant);
	store_read_grants(grant->core->store, &query, on_known_request, grant);
}

void request_withdraw(struct grant *grant)
{
	if (!grant->ended)
		grant_end_in_memory(grant, END_DEADLINE_MISSED);
	grant->end_committed = grant->ended = true;
	grant->cut_wished = false;
	grant_leave_books(grant);
	session_remove_grant(grant);
}

static void decision_refused(struct grant *grant, const struct error *err)
{
	const struct grant_record *record = &grant->record;
	bool known = err->status == STATUS_ALREADY_EXISTS && !id_is_zero(&record->request_id);
	request_withdraw(grant);
	if (known && !grant->core->stopping)
		request_look_up(grant);
	else
		grant_answer(grant, UNTIL_NEVER, err);
}

/* ---- decided ---- */

static void granted(struct grant *grant)
{
	struct error none = {0};
	grant->committed = true;
	if (grant->wish) {
		grant_apply_wish(grant);
		return;
	}
	grant_answer(grant, UNTIL_DECIDED, &none);
	grant_arm(grant);
}

static void denied(struct grant *grant)
{
	struct error denial = {0};
	grant->committed = grant->end_committed = true;
	(void)grant_verdict(&grant->record, &denial);
	grant_answer(grant, UNTIL_NEVER, &denial);
}

void request_decided(struct grant *grant, const struct error *err)
{
	grant->timing.commit_us = (uint64_t)(clock_mono_us() - grant->handed_us);
	if (err->status)
		decision_refused(grant, err);
	else if (grant->record.state == GRANT_DENIED)
		denied(grant);
	else
		granted(grant);
	grant_release(grant);
}

/* ---- examined ---- */

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
	copy_text(record->user, sizeof record->user, session->record.user);
	examined->session = session;
	return STATUS_OK;
}

enum status request_examine(struct core *core, const struct grant_ask *ask,
	struct examined *ret_examined, struct error *err)
{
	struct examined *examined = ret_examined;
	*examined = (struct examined){.record = ask->record};
	struct grant_record *record = &examined->record;
	const struct server_config *config = core->config;
	enum status status = STATUS_OK;
	if (!id_is_zero(&record->session))
		status = examine_session(core, ask, examined, err);
	else if (record->gateway[0] == '\0')
		status = error_field(err, "gateway", "gateway: name one, or a session");
	if (!status)
		status = scope_check_gateway(ask->asker, record->gateway, err);
	if (status)
		return status;
	examined->gateway = gateway_find(core, record->gateway);
	if (!examined->gateway)
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %s: unknown: see `postern gateway list`", record->gateway);
	examined->protocol = core_find_protocol(core, ask->protocol);
	if (!examined->protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not registered: see `postern protocol list`",
			ask->protocol);
	if (!ask->is_admin && !protocol_is_open_to(examined->protocol, record->filter))
		return protocol_not_shared(examined->protocol, err);
	copy_text(record->protocol, sizeof record->protocol, examined->protocol->name);
	struct grant_limits limits = {.default_lifetime_ms = config->default_lifetime_ms,
		.max_lifetime_ms = request_max_lifetime(core, ask->asker),
		.unused_timeout_ms = config->unused_timeout_ms};
	status = grant_complete(record, &limits, err);
	if (!status)
		status = bounds_check(examined->protocol,
			examined->session ? &examined->session->record.primary : NULL, record, err);
	return status ? status : scope_check_grant(ask->asker, record, err);
}

static const struct document_limits *limits_of(
	const struct core *core, const struct principal *asker)
{
	return asker ? policy_find_limits(core->policy, asker->record.name) : NULL;
}

uint64_t request_max_lifetime(const struct core *core, const struct principal *asker)
{
	const struct document_limits *limits = limits_of(core, asker);
	uint64_t most = scope_max_lifetime(asker, core->config->max_lifetime_ms);
	return limits && limits->max_lifetime_ms && limits->max_lifetime_ms < most
		? limits->max_lifetime_ms
		: most;
}

enum status request_check_quota(
	const struct core *core, const struct grant_ask *ask, size_t count, struct error *err)
{
	const struct principal *asker = ask->asker;
	if (!asker)
		return STATUS_OK;
	uint64_t most = asker->record.max_grants ? asker->record.max_grants
						 : core->config->max_live_grants_per_filter;
	const struct document_limits *limits = limits_of(core, asker);
	if (limits && limits->max_grants && limits->max_grants < most)
		most = limits->max_grants;
	if (asker->live_grants < most && count <= most - asker->live_grants)
		return scope_take(ask->asker, limits ? limits->grants_per_second : 0, count,
			ask->began_us, err);
	return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
		"filter %s has %llu live grants of %llu, its max_grants, and asks for %zu more: "
		"cancel some or wait for their end",
		asker->record.name, (unsigned long long)asker->live_grants,
		(unsigned long long)most, count);
}

enum status request_judge(struct core *core, struct examined *examined, struct error *err)
{
	struct policy_question question;
	question_of(&examined->record, clock_real_us(), &question);
	policy_decide(core->policy, &question, &examined->answer);
	if (examined->answer.verdict != POLICY_ALLOWED || gateway_is_up(examined->gateway))
		return STATUS_OK;
	return error_reason(err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
		"gateway %s is not connected: its agent must reach the server",
		examined->record.gateway);
}

int64_t grant_deadline(const struct core *core, enum waiter_until until, int64_t deadline_us)
{
	if (until == UNTIL_DECIDED)
		return CLOCK_NEVER;
	return deadline_us != CLOCK_NEVER
		? deadline_us
		: clock_mono_us() + (int64_t)core->config->request_deadline_ms * 1000;
}

/* ---- asked before ---- */

bool request_is_same(
	const struct grant *grant, const struct grant_ask *ask, const struct grant_record *record)
{
	return grant_same_request(&grant->record, record, ask->record.lifetime_ms != 0);
}

void request_join(struct grant *grant, const struct grant_ask *ask, struct waiter *waiter)
{
	struct error verdict = {0};
	bool installed = grant->record.state == GRANT_ACTIVE;
	bool settled = grant->ended
		? grant->end_committed
		: installed || (ask->until == UNTIL_DECIDED && grant->committed);
	if (settled) {
		(void)grant_verdict(&grant->record, &verdict);
		waiter->done(waiter->arg, grant, &verdict);
		return;
	}
	int64_t deadline = grant_deadline(grant->core, ask->until, ask->deadline_us);
	if (grant->deadline_us != CLOCK_NEVER && deadline > grant->deadline_us) {
		grant->deadline_us = deadline; /* never, if this one only wants the decision */
		if (!grant->ended && grant->committed && !grant->wish)
			grant_watch_clock(grant);
	}
	waiter->until = ask->until;
	waiter_add(grant, waiter);
}

/* ---- made ---- */

/* Which port the grant gets, if it is to have one of its own. */
static enum status take_external(struct examined *examined, struct error *err)
{
	struct grant_record *record = &examined->record;
	struct externals *externals = &examined->gateway->externals;
	struct endpoint *external = &record->external;
	if (external->addr.family == ADDR_NONE || (external->port == 0 && !record->inbound))
		return STATUS_OK;
	if (external->port == 0) {
		record->external_chosen = true;
		external->port = external_choose(
			externals, &external->addr, record->transport, clock_mono_us());
		if (external->port)
			return STATUS_OK;
		if (externals->first == 0)
			return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN,
				"external_port: the agent of gateway %s offers no range to choose "
				"from: name a port",
				record->gateway);
		return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN,
			"external_port: gateway %s has none of its ports %u to %u left: wait for "
			"the end of other grants, or name a port",
			record->gateway, externals->first, externals->last);
	}
	const struct external_place *place =
		external_holder(externals, external, record->transport);
	if (!place)
		return STATUS_OK;
	const struct grant *holder =
		(const struct grant *)((const char *)place - offsetof(struct grant, external));
	error_reason(err, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN,
		"external_port: another live grant has port %u of this address: ask for another "
		"one, or for 0",
		external->port);
	if (strcmp(holder->record.filter, record->filter) == 0)
		id_format(&holder->record.id, err->grant);
	return err->status;
}

static void fill_state(const struct core *core, const struct grant_ask *ask,
	const struct examined *examined, struct grant_record *record)
{
	uint64_t most = core->config->reservation_timeout_ms;
	uint64_t held =
		ask->reservation_ms && ask->reservation_ms < most ? ask->reservation_ms : most;
	record->id = id_new();
	record->created_us = clock_real_us();
	record->expires_us =
		record->created_us + (int64_t)(ask->reserve ? held : record->lifetime_ms) * 1000;
	record->state = ask->reserve ? GRANT_RESERVED : GRANT_PENDING;
	record->revision = policy_revision(core->policy);
	copy_text(record->rule, sizeof record->rule, examined->answer.rule);
	copy_text(record->site_rule, sizeof record->site_rule, examined->answer.site_rule);
	if (examined->answer.verdict == POLICY_ALLOWED)
		return;
	record->state = GRANT_DENIED;
	record->reason = examined->answer.verdict == POLICY_DENIED_BY_PROTOCOL_RULES
		? END_DENIED_PROTOCOL_RULES
		: END_DENIED_SITE_AND_CONTENT_RULES;
	record->ended_us = record->created_us;
}

/* In the books. NULL: out of memory. */
static struct grant *make(struct core *core, const struct grant_ask *ask, struct examined *examined)
{
	struct grant_record owned;
	fill_state(core, ask, examined, &examined->record);
	if (!grant_record_copy(&owned, &examined->record))
		return NULL;
	struct grant *grant = grant_new(core, &owned, examined->gateway, ask->asker);
	if (!grant) {
		grant_record_fini(&owned);
		return NULL;
	}
	grant->lifetime_given = ask->record.lifetime_ms != 0;
	grant->ended = examined->answer.verdict != POLICY_ALLOWED;
	grant->deadline_us = grant_deadline(core, ask->until, ask->deadline_us);
	return grant;
}

enum status request_make(struct core *core, const struct grant_ask *ask, struct examined *examined,
	struct grant **ret_grant, struct error *err)
{
	bool allowed = examined->answer.verdict == POLICY_ALLOWED;
	enum status status = allowed ? take_external(examined, err) : STATUS_OK;
	if (status)
		return status;
	struct grant *grant = make(core, ask, examined);
	if (!grant)
		return core_no_decision(err);
	if (allowed && !grant_become_live(grant, examined->session)) {
		request_unmake(grant);
		return core_no_decision(err);
	}
	if (allowed)
		grant_watch_clock(grant);
	if (examined->session)
		session_touch(examined->session);
	*ret_grant = grant;
	return STATUS_OK;
}

void request_unmake(struct grant *grant)
{
	grant_hold(grant);
	if (!grant->ended)
		grant_end_in_memory(grant, END_DEADLINE_MISSED);
	grant->end_committed = true;
	session_remove_grant(grant);
	grant_release(grant);
}

struct grant *request_make_ghost(
	struct core *core, const struct grant_ask *ask, struct examined *examined)
{
	struct grant *grant = make(core, ask, examined);
	if (!grant)
		return NULL;
	grant_leave_books(grant);
	grant->ended = grant->end_committed = true;
	return grant;
}

void request_add(struct grant *grant, const struct grant_ask *ask, const struct examined *examined,
	struct store_txn *txn)
{
	struct entry entry;
	fill_decision(grant, &examined->answer, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant->record);
	grant_hold(grant);
	grant->handed_us = clock_mono_us();
	grant->timing.decide_us = (uint64_t)(grant->handed_us - ask->began_us);
}

static void on_decided(void *arg, uint64_t sequence, const struct error *err)
{
	(void)sequence;
	request_decided(arg, err);
}

enum status core_request(
	struct core *core, const struct grant_ask *ask, struct waiter *waiter, struct error *err)
{
	struct examined examined;
	enum status status = request_examine(core, ask, &examined, err);
	if (status)
		return status;
	struct grant *grant =
		grant_find_request(core, examined.record.filter, &examined.record.request_id);
	if (grant && !request_is_same(grant, ask, &examined.record))
		return request_used_for_another(&grant->record.id, err);
	if (grant) {
		request_join(grant, ask, waiter);
		return STATUS_OK;
	}
	status = request_check_quota(core, ask, 1, err);
	if (!status)
		status = request_judge(core, &examined, err);
	if (status)
		return status;
	struct store_txn *txn = core_decision(core);
	status = txn ? request_make(core, ask, &examined, &grant, err) : core_no_decision(err);
	if (status) {
		store_txn_free(txn);
		return status;
	}
	waiter->until = ask->until;
	waiter_add(grant, waiter);
	request_add(grant, ask, &examined, txn);
	core_submit_first(core, txn, on_decided, grant);
	return STATUS_OK;
}
