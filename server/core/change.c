/* Decisions about a grant that exists: its end, the cut of its flows, its renewal, its commitment,
 * another external port.
 *
 * One at a time. While a change is under way, rows that are written for other reasons already speak
 * of it (they reach the disk behind it); if the disk refuses it, the row is written once more as it
 * is. An end that comes meanwhile is a wish (grant.c) and is granted afterwards, unless the change
 * has moved the time that it was about. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"
#include "server/core/request.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

#define EXTERNALS_MAX 8 /* a gateway with as many programs in its range has a wrong range */

/* ---- on disk, or refused ---- */

bool change_is_about_time(uint8_t wish)
{
	return wish == END_LIFETIME || wish == END_UNUSED_TIMEOUT ||
		wish == END_RESERVATION_TIMEOUT;
}

static void take_times(struct grant *grant)
{
	grant->due_us = clock_mono_us() + (grant->record.expires_us - clock_real_us());
	if (grant->closes_us < grant->due_us)
		grant->closes_us = grant->due_us;
	if (change_is_about_time(grant->wish))
		grant->wish = 0;
}

static void cut(struct grant *grant)
{
	grant->record.cut = true;
	gateway_cut(grant->gateway, &grant->cut);
}

/* The caller of a renewal hears when the door has its new time, if somebody is there to give it. */
static void renewed(struct grant *grant)
{
	struct error none = {0};
	struct waiter *waiter;
	take_times(grant);
	gateway_retell(grant->gateway, &grant->door);
	if (!gateway_is_up(grant->gateway) || grant->door.place == WANTED_OUT)
		grant_answer_range(grant, UNTIL_CHANGED, UNTIL_CHANGED, &none);
	while ((waiter = grant_waiting(grant, UNTIL_CHANGED, UNTIL_CHANGED)))
		waiter->until = UNTIL_INSTALLED;
}

static void committed(struct grant *grant, const struct grant_change *change)
{
	struct error none = {0};
	take_times(grant);
	grant->closes_us = grant->due_us;
	grant->deadline_us = change->deadline_us;
	if (!grant->wish)
		grant_answer(grant, UNTIL_DECIDED, &none);
}

static void made(struct grant *grant, const struct grant_change *change)
{
	switch (change->kind) {
	case CHANGE_NONE:
		return;
	case CHANGE_END:
		grant->wish = 0;
		grant_end_in_memory(grant, (enum end_reason)change->reason);
		if (change->cut)
			cut(grant);
		grant_end_is_on_disk(grant);
		return;
	case CHANGE_CUT:
		cut(grant);
		return;
	case CHANGE_RENEW:
		renewed(grant);
		return;
	case CHANGE_COMMIT:
		committed(grant, change);
		return;
	case CHANGE_EXTERNAL:
		return;
	}
}

/* Rows that were written meanwhile spoke of it. */
static void write_row_again(struct grant *grant)
{
	struct store_txn *txn = core_fact(grant->core);
	if (!txn)
		return;
	grant_put_row(grant, txn);
	core_submit(grant->core, txn, NULL, NULL);
}

static void refused(struct grant *grant, const struct grant_change *change, const struct error *err)
{
	write_row_again(grant);
	switch (change->kind) {
	case CHANGE_NONE:
		return;
	case CHANGE_END:
		grant_answer_range(grant, UNTIL_CLOSED, UNTIL_CUT, err);
		return;
	case CHANGE_CUT:
		grant_answer_range(grant, UNTIL_CUT, UNTIL_CUT, err);
		return;
	case CHANGE_RENEW:
		grant_answer_range(grant, UNTIL_CHANGED, UNTIL_CHANGED, err);
		return;
	case CHANGE_COMMIT:
		grant_leave_line(grant);
		grant_answer(grant, UNTIL_INSTALLED, err);
		return;
	case CHANGE_EXTERNAL:
		if (!grant->wish)
			grant->wish = END_GATEWAY_REFUSED;
		return;
	}
}

void change_decided(struct grant *grant, const struct error *err)
{
	struct grant_change change = grant->change;
	if (!err->status && change.kind != CHANGE_END)
		grant->record = grant_changed(grant);
	grant->change = (struct grant_change){0};
	if (err->status)
		refused(grant, &change, err);
	else
		made(grant, &change);
	if (!grant->ended)
		grant_apply_wish(grant);
	if (!grant->ended && !grant->core->stopping) {
		grant_watch_clock(grant);
		grant_arm(grant);
	}
	grant_apply_cut_wish(grant);
	grant_check_gone(grant);
	grant_release(grant);
}

static void on_changed(void *arg, uint64_t sequence, const struct error *err)
{
	(void)sequence;
	change_decided(arg, err);
}

/* Takes the transaction, with the entry that tells of it. */
static void begin(struct grant *grant, const struct grant_change *change, struct store_txn *txn)
{
	grant->change = *change;
	grant_put_row(grant, txn);
	grant_hold(grant);
	core_submit(grant->core, txn, on_changed, grant);
}

static enum status busy(const struct grant *grant, struct error *err)
{
	error_set(err, STATUS_ABORTED,
		"another decision about this grant is on its way to the disk: ask again");
	id_format(&grant->record.id, err->grant);
	return err->status;
}

static enum status already_ended(const struct grant *grant, struct error *err)
{
	error_reason(err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
		"the grant has already ended: %s",
		end_reason_name(
			(enum end_reason)(grant->ended ? grant->record.reason : grant->wish)));
	id_format(&grant->record.id, err->grant);
	return err->status;
}

/* ---- the end, the cut ---- */

static void add_cut_entry(const struct grant *grant, const char *actor, struct store_txn *txn)
{
	struct entry entry;
	grant_fill_entry(grant, ENTRY_CUT, &entry);
	copy_text(entry.actor, sizeof entry.actor, actor);
	entry.count = grant->open_flows;
	store_txn_entry(txn, &entry);
}

static enum status begin_cut(struct grant *grant, const char *actor, struct error *err)
{
	struct grant_change change = {.kind = CHANGE_CUT};
	struct store_txn *txn = core_decision(grant->core);
	if (!txn)
		return core_no_decision(err);
	add_cut_entry(grant, actor, txn);
	begin(grant, &change, txn);
	return STATUS_OK;
}

static void wish_cut(struct grant *grant, const char *actor)
{
	grant->cut_wished = true;
	copy_text(grant->cut_actor, sizeof grant->cut_actor, actor);
}

void change_end_by_policy(
	struct grant *grant, bool with_cut, const char *detail, struct facts *facts)
{
	grant->doomed = true;
	grant->gateway->doomed++;
	if (!facts || !change_is_free(grant)) {
		if (with_cut)
			wish_cut(grant, "");
		grant_end(grant, END_POLICY_CHANGED, "", detail);
		return;
	}
	grant->record.cut |= with_cut;
	grant_end_in_memory(grant, END_POLICY_CHANGED);
	grant_journal_end_in(grant, detail, facts);
	if (!with_cut)
		return;
	add_cut_entry(grant, "", facts->txn);
	gateway_cut(grant->gateway, &grant->cut);
}

void grant_apply_cut_wish(struct grant *grant)
{
	struct error err = {0};
	if (!grant->cut_wished || !grant->ended || grant->change.kind != CHANGE_NONE)
		return;
	grant->cut_wished = false;
	if (grant->record.cut || grant->core->stopping || !begin_cut(grant, grant->cut_actor, &err))
		return;
	grant_answer_range(grant, UNTIL_CUT, UNTIL_CUT, &err);
}

static enum status cut_ended(
	struct grant *grant, const char *actor, struct waiter *waiter, struct error *err)
{
	if (grant->change.kind == CHANGE_NONE && !grant->record.cut && !grant->cut_wished) {
		if (grant->open_flows == 0)
			return already_ended(grant, err);
		enum status status = begin_cut(grant, actor, err);
		if (status)
			return status;
	}
	waiter_add(grant, waiter);
	return STATUS_OK;
}

bool change_is_free(const struct grant *grant)
{
	return grant->committed && !grant->ended && !grant->wish &&
		grant->change.kind == CHANGE_NONE;
}

void change_add_end(struct grant *grant, enum end_reason reason, const char *actor, bool with_cut,
	struct store_txn *txn)
{
	grant->change = (struct grant_change){
		.kind = CHANGE_END, .reason = (uint8_t)reason, .cut = with_cut};
	grant_add_ended(grant, reason, actor, "", txn);
	if (with_cut)
		add_cut_entry(grant, actor, txn);
	grant_hold(grant);
}

enum status core_cancel(struct core *core, struct grant *grant, enum end_reason reason,
	const char *actor, bool with_cut, struct waiter *waiter, struct error *err)
{
	waiter->until = with_cut ? UNTIL_CUT : UNTIL_CLOSED;
	if (grant->ended && with_cut)
		return cut_ended(grant, actor, waiter, err);
	if (!grant->ended && change_is_about_time(grant->wish))
		grant->wish = 0; /* a renewal under way might take it back; this not */
	if (grant->ended || (grant->wish && !with_cut))
		return already_ended(grant, err);
	if (!change_is_free(grant)) {
		if (with_cut && !(grant->change.kind == CHANGE_END && grant->change.cut))
			wish_cut(grant, actor);
		waiter_add(grant, waiter);
		if (grant->change.kind != CHANGE_END)
			grant_end(grant, reason, actor, "");
		return STATUS_OK;
	}
	struct store_txn *txn = core_decision(core);
	if (!txn)
		return core_no_decision(err);
	waiter_add(grant, waiter);
	change_add_end(grant, reason, actor, with_cut, txn);
	core_submit(core, txn, on_changed, grant);
	return STATUS_OK;
}

/* ---- renewal ---- */

enum status core_renew(struct grant *grant, uint64_t lifetime_ms, const char *actor,
	struct waiter *waiter, struct error *err)
{
	const struct server_config *config = grant->core->config;
	struct grant_limits limits = {.default_lifetime_ms = config->default_lifetime_ms,
		.max_lifetime_ms = request_max_lifetime(grant->core, grant->filter),
		.unused_timeout_ms = config->unused_timeout_ms};
	struct grant_change change = {.kind = CHANGE_RENEW};
	struct entry entry;
	if (grant->ended || grant->wish || grant->change.kind == CHANGE_END)
		return already_ended(grant, err);
	if (grant->record.state == GRANT_RESERVED)
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"the grant is only reserved: commit it, then its lifetime begins");
	if (grant->due_us <= clock_mono_us()) {
		id_format(&grant->record.id, err->grant);
		return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"the grant has already ended: its lifetime is over: ask for a new one");
	}
	if (!grant->committed || grant->change.kind != CHANGE_NONE)
		return busy(grant, err);
	struct store_txn *txn = core_decision(grant->core);
	if (!txn)
		return core_no_decision(err);
	int64_t now = clock_real_us();
	struct grant_record record = grant->record;
	record.expires_us = now + (grant->due_us - clock_mono_us()); /* clocks are set */
	change.expires_us =
		grant_renewed_until(&record, &limits, lifetime_ms, now, &change.clamped);
	grant_fill_entry(grant, ENTRY_RENEWED, &entry);
	copy_text(entry.actor, sizeof entry.actor, actor);
	entry.time_us = now;
	entry.lifetime_ms = (uint64_t)((change.expires_us - now) / 1000);
	store_txn_entry(txn, &entry);
	waiter->until = UNTIL_CHANGED;
	waiter_add(grant, waiter);
	if (grant->session)
		session_touch(grant->session);
	begin(grant, &change, txn);
	return STATUS_OK;
}

/* ---- commitment ---- */

/* It was committed before: answered as then. */
static enum status commit_again(
	struct grant *grant, int64_t deadline_us, struct waiter *waiter, struct error *err)
{
	struct error verdict = {0};
	if (grant->ended || grant->wish)
		return already_ended(grant, err);
	if (grant->record.state == GRANT_ACTIVE ||
		(waiter->until == UNTIL_DECIDED && grant->record.state == GRANT_PENDING)) {
		waiter->done(waiter->arg, grant, &verdict);
		return STATUS_OK;
	}
	if (grant->deadline_us != CLOCK_NEVER && deadline_us > grant->deadline_us)
		grant->deadline_us = deadline_us;
	waiter_add(grant, waiter);
	return STATUS_OK;
}

enum status core_commit(struct grant *grant, const char *actor, int64_t deadline_us,
	struct waiter *waiter, struct error *err)
{
	deadline_us = grant_deadline(grant->core, waiter->until, deadline_us);
	struct grant_change change = {.kind = CHANGE_COMMIT, .deadline_us = deadline_us};
	struct entry entry;
	if (grant->record.state != GRANT_RESERVED || grant->ended || grant->wish ||
		grant->change.kind == CHANGE_COMMIT)
		return commit_again(grant, deadline_us, waiter, err);
	if (!grant->committed || grant->change.kind != CHANGE_NONE)
		return busy(grant, err);
	if (!gateway_is_up(grant->gateway))
		return error_reason(err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
			"gateway %s is not connected: its agent must reach the server",
			grant->record.gateway);
	struct store_txn *txn = core_decision(grant->core);
	if (!txn || !grant_join_line(grant)) {
		store_txn_free(txn);
		return core_no_decision(err);
	}
	change.expires_us = clock_real_us() + (int64_t)grant->record.lifetime_ms * 1000;
	grant_fill_entry(grant, ENTRY_COMMITTED, &entry);
	copy_text(entry.actor, sizeof entry.actor, actor);
	entry.lifetime_ms = grant->record.lifetime_ms;
	entry.max_connections = grant->record.max_connections;
	store_txn_entry(txn, &entry);
	waiter_add(grant, waiter);
	if (grant->session)
		session_touch(grant->session);
	begin(grant, &change, txn);
	return STATUS_OK;
}

/* ---- another external port ---- */

/* False: there is none, or no memory. */
static bool choose_again(struct grant *grant, struct grant_change *change)
{
	struct externals *externals = &grant->gateway->externals;
	const struct grant_record *record = &grant->record;
	int64_t now = clock_mono_us();
	external_release(externals, &grant->external);
	external_is_busy(externals, &record->external, record->transport, now);
	change->external.addr = record->external.addr;
	change->external.port =
		external_choose(externals, &record->external.addr, record->transport, now);
	return change->external.port &&
		external_claim(externals, &change->external, record->transport, &grant->external);
}

void grant_external_taken(struct grant *grant, const char *cause)
{
	struct grant_change change = {.kind = CHANGE_EXTERNAL};
	struct entry entry;
	if (grant->ended || !grant->record.external_chosen || grant->wish ||
		grant->change.kind != CHANGE_NONE || grant->externals_tried >= EXTERNALS_MAX) {
		grant_refused(grant, cause);
		return;
	}
	grant->externals_tried++;
	struct store_txn *txn = core_decision(grant->core);
	if (!txn || !choose_again(grant, &change)) {
		store_txn_free(txn);
		grant_refused(grant, cause);
		return;
	}
	grant_fill_entry(grant, ENTRY_EXTERNAL_CHANGED, &entry);
	entry.external = change.external;
	snprintf(entry.detail, sizeof entry.detail, "not port %u: %.200s",
		grant->record.external.port, cause);
	store_txn_entry(txn, &entry);
	begin(grant, &change, txn);
}
