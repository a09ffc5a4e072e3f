#include "server/core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"
#include "server/core/grant.h"
#include "server/core/revision.h"
#include "server/core/session.h"
#include "server/feeds/feeds.h"
#include "server/fleet/gateway.h"
#include "server/worker.h"

/* Far below anybody's patience, far above a commit: enough for the next request to come and take
 * the rest along. */
#define LATER_US 10000

/* ---- loading ---- */

struct loading {
	struct core *core;
	struct rule_record *rules; /* of before the policy document */
	size_t rule_count;
	bool out_of_memory;
};

static void note(struct loading *loading, bool done)
{
	loading->out_of_memory |= !done;
}

static void load_gateway(void *arg, const struct gateway_record *record)
{
	note(arg, gateway_load(((struct loading *)arg)->core, record) != NULL);
}

static void load_principal(void *arg, const struct principal_record *record)
{
	note(arg, principals_add(&((struct loading *)arg)->core->principals, record) != NULL);
}

static void load_protocol(void *arg, const struct protocol_record *record)
{
	note(arg, protocols_add(&((struct loading *)arg)->core->protocols, record));
}

static void load_rule(void *arg, const struct rule_record *record)
{
	struct loading *loading = arg;
	struct rule_record *more =
		realloc(loading->rules, (loading->rule_count + 1) * sizeof *loading->rules);
	note(loading, more != NULL);
	if (!more)
		return;
	loading->rules = more;
	loading->rules[loading->rule_count++] = *record;
}

static void load_revision(void *arg, const struct revision_record *record)
{
	note(arg, revisions_load(((struct loading *)arg)->core, record));
}

static void load_feed(void *arg, const struct feed_record *record)
{
	note(arg, feeds_load(((struct loading *)arg)->core->feeds, record));
}

static void load_session(void *arg, const struct session_record *record)
{
	note(arg, session_load(((struct loading *)arg)->core, record));
}

static void load_grant(void *arg, const struct grant_record *record)
{
	note(arg, grant_load(((struct loading *)arg)->core, record) != NULL);
}

static void load_flow(void *arg, const struct flow_record *record)
{
	struct gateway *gateway = gateway_find(((struct loading *)arg)->core, record->gateway);
	if (gateway)
		note(arg, flow_load(&gateway->flows, record));
}

static void on_feed_changed(void *arg)
{
	revision_recompile(arg);
}

static void write_feed(void *arg, const struct feed_record *record, const struct entry *entry)
{
	struct core *core = arg;
	struct store_txn *txn = core_fact(core);
	if (!txn)
		return; /* it is fetched again */
	if (entry)
		store_txn_entry(txn, entry);
	store_txn_put_feed(txn, record);
	core_submit(core, txn, NULL, NULL);
}

static enum status start_helpers(struct core *core, struct error *err)
{
	const struct feeds_config config = {.loop = core->loop,
		.ca_file = core->config->feed_ca_file,
		.arg = core,
		.changed = on_feed_changed,
		.write = write_feed};
	enum status status = worker_new(core->loop, &core->worker, err);
	if (!status)
		status = feeds_new(&config, &core->feeds, err);
	return status ? status : revisions_new(core, err);
}

enum status core_init(struct core *core, struct loop *loop, const struct server_config *config,
	struct store *store, struct error *err)
{
	struct loading loading = {.core = core};
	memset(core, 0, sizeof *core);
	core->loop = loop;
	core->config = config;
	core->store = store;
	protocols_init(&core->protocols);
	principals_init(&core->principals);
	gateways_init(core);
	grants_init(core);
	sessions_init(core);
	struct store_visitor visitor = {.arg = &loading,
		.gateway = load_gateway,
		.principal = load_principal,
		.protocol = load_protocol,
		.rule = load_rule,
		.revision = load_revision,
		.feed = load_feed,
		.session = load_session,
		.grant = load_grant,
		.flow = load_flow};
	enum status status = start_helpers(core, err);
	if (!status)
		status = store_load(store, &visitor, err);
	if (!status && loading.out_of_memory)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory while loading");
	if (!status)
		status = revisions_init(core, loading.rules, loading.rule_count, err);
	free(loading.rules);
	return status;
}

void core_begin(struct core *core)
{
	struct entry entry;
	core_entry(&entry, ENTRY_SERVER_STARTED, "");
	copy_text(entry.detail, sizeof entry.detail, "posternd " POSTERN_VERSION);
	core_note(core, &entry);
	grants_settle(core);
	for (struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next)
		flows_check_boot(&gateway->flows);
	revisions_begin(core);
}

/* ---- transactions ---- */

static void flush_later(struct core *core)
{
	unsigned count = core->later_count;
	core->later_count = 0;
	loop_timer_clear(core->loop, &core->later_timer);
	for (unsigned i = 0; i < count; i++)
		store_submit(
			core->store, core->later[i].txn, core->later[i].done, core->later[i].arg);
}

static void later_timer(void *arg)
{
	flush_later(arg);
}

struct store_txn *core_decision(struct core *core)
{
	return core->stopping ? NULL : store_txn_new(core->store);
}

struct store_txn *core_fact(struct core *core)
{
	return core->stopping ? NULL : store_txn_new_fact(core->store);
}

enum status core_no_decision(struct error *err)
{
	return error_reason(err, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
		"the journal cannot keep up, or memory is short: try again");
}

void core_submit(struct core *core, struct store_txn *txn, store_done_cb done, void *arg)
{
	flush_later(core);
	store_submit(core->store, txn, done, arg);
}

void core_submit_first(struct core *core, struct store_txn *txn, store_done_cb done, void *arg)
{
	store_submit(core->store, txn, done, arg);
	flush_later(core);
}

void core_submit_later(struct core *core, struct store_txn *txn, store_done_cb done, void *arg)
{
	core->later[core->later_count++] = (struct core_later){txn, done, arg};
	if (core->later_count == CORE_LATER_MAX)
		flush_later(core);
	else if (core->later_count == 1)
		loop_timer_set(core->loop, &core->later_timer, clock_mono_us() + LATER_US,
			later_timer, core);
}

struct facts *facts_new(struct core *core)
{
	struct facts *facts = calloc(1, sizeof *facts);
	if (!facts)
		return NULL;
	facts->core = core;
	facts->txn = core_fact(core);
	if (facts->txn)
		return facts;
	free(facts);
	return NULL;
}

static void facts_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct facts *facts = arg;
	struct core *core = facts->core;
	if (err->status && !core->stopping) {
		log_err("journal: facts were lost: %s: stopping, so that the next start rebuilds "
			"what is on disk",
			err->text);
		core->broken = true;
		loop_stop(core->loop);
	}
	grants_ended(facts->ended, err);
	if (facts->done)
		facts->done(facts->arg, sequence, err);
	free(facts);
}

void facts_submit(struct facts *facts, bool in_no_hurry, store_done_cb done, void *arg)
{
	facts->done = done;
	facts->arg = arg;
	if (in_no_hurry)
		core_submit_later(facts->core, facts->txn, facts_committed, facts);
	else
		core_submit(facts->core, facts->txn, facts_committed, facts);
}

void core_note(struct core *core, const struct entry *entry)
{
	struct store_txn *txn = core_fact(core);
	if (!txn) {
		if (!core->stopping)
			log_err("journal: %s was not written: out of memory",
				entry_kind_name(entry->kind));
		return;
	}
	store_txn_entry(txn, entry);
	core_submit(core, txn, NULL, NULL);
}

/* ---- the end ---- */

void core_stop(struct core *core)
{
	struct entry entry;
	if (core->stopping || !core->loop)
		return;
	core_entry(&entry, ENTRY_SERVER_STOPPED, "");
	core_note(core, &entry);
	core->stopping = true;
	revisions_stop(core);
}

void core_fini(struct core *core)
{
	if (!core->loop)
		return;
	core->stopping = true;
	loop_timer_clear(core->loop, &core->later_timer);
	for (struct gateway *gateway = core->first_gateway; gateway; gateway = gateway->next) {
		inbox_fini(&gateway->inbox);
		flows_fini(&gateway->flows);
	}
	revisions_fini(core);
	grants_fini(core);
	sessions_fini(core);
	gateways_fini(core);
	principals_fini(&core->principals);
	protocols_fini(&core->protocols);
	feeds_free(core->feeds);
	core->feeds = NULL;
	core->loop = NULL;
}

/* ---- small things ---- */

void core_entry(struct entry *ret_entry, enum entry_kind kind, const char *actor)
{
	memset(ret_entry, 0, sizeof *ret_entry);
	ret_entry->time_us = clock_real_us();
	ret_entry->kind = kind;
	copy_text(ret_entry->actor, sizeof ret_entry->actor, actor);
}

bool name_is_valid(const char *name)
{
	size_t length = strlen(name);
	if (length == 0 || length >= RECORD_NAME_SIZE ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != length)
		return false;
	return strchr("._-", name[0]) == NULL;
}

bool copy_text(char *to, size_t size, const char *from)
{
	return (size_t)snprintf(to, size, "%s", from) < size;
}
