/* Grants: from the request to the end. The stages of a request and who moves it on:
 *
 *   core_request ──commit──▶ committed ──gateway_arm──▶ sent ──grant_installed / grant_refused──▶
 * answered │                      │                                        │ └── fails: forgotten
 * └── waiters "until decided" answered     └── waiters "until installed" answered
 *
 * Grants of one key (gateway, client, transport, remote) queue; the first is armed, the next when
 * it has ended. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/core.h"

#define EXPIRY_GRACE_US                                                                            \
	500000 /* the kernel closes the door first; late reports arrive before the journal says    \
		  expired */
#define SHELL_US 30000000 /* how long an ended grant can still be named by a late report */

/* ---- waiters ---- */

static struct waiter *waiter_add(struct grant *grant, bool until_decided, waiter_cb done, void *arg)
{
	struct waiter *waiter = calloc(1, sizeof *waiter);
	if (!waiter)
		return NULL;
	waiter->grant = grant;
	waiter->until_decided = until_decided;
	waiter->done = done;
	waiter->arg = arg;
	waiter->next = grant->waiters;
	grant->waiters = waiter;
	return waiter;
}

static void waiter_unlink(struct waiter *waiter)
{
	for (struct waiter **at = &waiter->grant->waiters; *at; at = &(*at)->next) {
		if (*at == waiter) {
			*at = waiter->next;
			return;
		}
	}
}

/* Answers those who wait for this; `all`: everyone. The callbacks may not free the grant: `writes`
 * holds it. */
static void answer(struct grant *grant, bool all, const struct error *err)
{
	grant->writes++;
	for (struct waiter *waiter = grant->waiters, *next; waiter; waiter = next) {
		next = waiter->next;
		if (!all && !waiter->until_decided)
			continue;
		waiter_unlink(waiter);
		waiter->done(waiter->arg, grant, err);
		free(waiter);
	}
	grant->writes--;
}

/* ---- life ---- */

static void unlink_request(struct grant *grant)
{
	if (grant->in_request_table)
		table_remove(&grant->core->requests, &grant->by_request);
	grant->in_request_table = false;
}

static void grant_free(struct grant *grant)
{
	table_remove(&grant->core->grants, &grant->by_id);
	unlink_request(grant);
	loop_timer_clear(grant->core->loop, &grant->timer);
	free(grant->record.context);
	free(grant);
}

static bool is_needed(const struct grant *grant)
{
	return !grant->end_committed || grant->open_flows > 0 || grant->writes > 0 ||
		grant->waiters;
}

static void shell_timer(void *arg)
{
	struct grant *grant = arg;
	if (!is_needed(grant))
		grant_free(grant);
}

/* Whoever lets go of a grant calls this. */
static void grant_reap(struct grant *grant)
{
	if (grant->core->stopping || is_needed(grant) || grant->timer.armed)
		return;
	loop_timer_set(
		grant->core->loop, &grant->timer, clock_mono_us() + SHELL_US, shell_timer, grant);
}

void grant_flow_closed(struct grant *grant)
{
	grant->open_flows--;
	if (grant->ended)
		grant_reap(grant);
}

uint64_t grant_left_ms(const struct grant *grant)
{
	int64_t left = grant->ended ? 0 : grant->due_us - clock_mono_us();
	return left <= 0 ? 0 : (uint64_t)(left + 999) / 1000;
}

static void expired(void *arg)
{
	struct grant *grant = arg;
	bool unused = (grant->record.flags & GRANT_TIMEOUT) && grant->record.connections == 0;
	grant_end(grant, unused ? END_UNUSED_TIMEOUT : END_LIFETIME, "", "");
}

static bool insert_request(struct core *core, struct grant *grant)
{
	if (id_is_zero(&grant->record.request_id))
		return true;
	grant->in_request_table = table_insert(&core->requests, &grant->by_request,
		grant->record.request_id.bytes, sizeof grant->record.request_id.bytes);
	return grant->in_request_table;
}

/* Puts a grant into every book. NULL: out of memory, nothing changed. Takes over record->context.
 */
static struct grant *grant_new(struct core *core, const struct grant_record *record,
	struct gateway *gateway, struct principal *filter)
{
	struct grant *grant = calloc(1, sizeof *grant);
	if (!grant)
		return NULL;
	grant->core = core;
	grant->record = *record;
	grant->gateway = gateway;
	grant->filter = filter;
	if (!table_insert(
		    &core->grants, &grant->by_id, record->id.bytes, sizeof record->id.bytes)) {
		free(grant);
		return NULL;
	}
	if (!insert_request(core, grant)) {
		grant->record.context = NULL;
		grant_free(grant);
		return NULL;
	}
	grant->due_us = clock_mono_us() + (record->expires_us - clock_real_us());
	return grant;
}

static void make_live(struct grant *grant)
{
	grant->counted = true;
	if (grant->filter)
		grant->filter->live_grants++;
	if (grant->gateway)
		grant->gateway->live_grants++;
	/* An ADDRESS_BASED grant outlives its session, so it must not point to it. */
	if (grant->record.flags & GRANT_ADDRESS_BASED)
		grant->session = NULL;
	if (grant->session)
		session_add_grant(grant->session, grant);
	loop_timer_set(
		grant->core->loop, &grant->timer, grant->due_us + EXPIRY_GRACE_US, expired, grant);
}

static void make_dead(struct grant *grant)
{
	loop_timer_clear(grant->core->loop, &grant->timer);
	if (grant->counted) {
		if (grant->filter)
			grant->filter->live_grants--;
		if (grant->gateway)
			grant->gateway->live_grants--;
	}
	grant->counted = false;
	session_remove_grant(grant);
}

/* ---- journal ---- */

void grant_fill_entry(const struct grant *grant, enum entry_kind kind, struct entry *ret_entry)
{
	const struct grant_record *record = &grant->record;
	core_entry(ret_entry, kind, "");
	snprintf(ret_entry->gateway, sizeof ret_entry->gateway, "%s", record->gateway);
	snprintf(ret_entry->filter, sizeof ret_entry->filter, "%s", record->filter);
	snprintf(ret_entry->protocol, sizeof ret_entry->protocol, "%s", record->protocol);
	ret_entry->session = record->session;
	ret_entry->grant = record->id;
	ret_entry->client = record->client;
	ret_entry->remote = record->remote;
	ret_entry->transport = record->transport;
	ret_entry->notify = record->notify;
	if (record->notify) {
		ret_entry->context = record->context;
		ret_entry->context_size = record->context_size;
	}
}

static void fill_decision(const struct grant *grant, enum entry_kind kind, struct entry *entry)
{
	const struct grant_record *record = &grant->record;
	grant_fill_entry(grant, kind, entry);
	snprintf(entry->actor, sizeof entry->actor, "%s", record->filter);
	snprintf(entry->rule, sizeof entry->rule, "%s", record->rule);
	entry->external = record->external;
	entry->flags = record->flags;
	entry->lifetime_ms = record->lifetime_ms;
	entry->max_connections = record->max_connections;
	entry->request_id = record->request_id;
	entry->context = record->context;
	entry->context_size = record->context_size;
}

static void end_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	(void)sequence;
	grant->writes--;
	if (err->status == STATUS_OK)
		grant->end_committed = true;
	answer(grant, true, err);
	grant_reap(grant);
}

/* Memory's part of an end: everything but the journal. */
static void end_in_memory(struct grant *grant, enum end_reason reason)
{
	enum grant_state state = grant_end_state(reason);
	assert(grant_may_become((enum grant_state)grant->record.state, state));
	grant->record.state = (uint8_t)state;
	grant->record.reason = (uint8_t)reason;
	grant->record.ended_us = clock_real_us();
	grant->ended = true;
	make_dead(grant);
	if (grant->committed)
		grant_dequeue(grant);
}

static void add_end(
	struct grant *grant, const char *actor, const char *detail, struct store_txn *txn)
{
	struct entry entry;
	grant_fill_entry(grant, ENTRY_ENDED, &entry);
	snprintf(entry.actor, sizeof entry.actor, "%s", actor);
	snprintf(entry.detail, sizeof entry.detail, "%s", detail);
	entry.reason = grant->record.reason;
	entry.count = grant->record.connections;
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant->record);
}

void grant_end(struct grant *grant, enum end_reason reason, const char *actor, const char *detail)
{
	if (grant->ended)
		return;
	end_in_memory(grant, reason);
	struct store_txn *txn = core_fact_txn(grant->core);
	if (!txn)
		return;
	add_end(grant, actor, detail, txn);
	grant->writes++;
	store_submit(grant->core->store, txn, end_committed, grant);
}

/* `flows` more connections were made; the caller's transaction carries the consequences. */
void grant_used(struct grant *grant, uint64_t flows, struct store_txn *txn)
{
	grant->record.connections += flows;
	if (!grant->ended && grant->record.max_connections &&
		grant->record.connections >= grant->record.max_connections) {
		struct error none = {0};
		end_in_memory(grant, END_USED_UP);
		add_end(grant, "", "", txn);
		grant->end_committed = true; /* with the caller's transaction, which is tried until
						it is on disk */
		answer(grant, true, &none);
		return;
	}
	store_txn_put_grant(txn, &grant->record);
}

/* ---- what the gateway says ---- */

static void installed_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	(void)sequence;
	(void)err;
	grant->writes--;
	if (grant->ended)
		grant_reap(grant);
}

void grant_installed(struct grant *grant, uint64_t kernel_us)
{
	struct error none = {0};
	struct entry entry;
	int64_t way = clock_mono_us() - grant->sent_us;
	if (grant->ended || grant->record.state != GRANT_PENDING)
		return;
	grant->record.state = GRANT_ACTIVE;
	grant->timing.kernel_us = kernel_us;
	grant->timing.push_us = way > (int64_t)kernel_us ? (uint64_t)way - kernel_us : 0;
	/* The decision is on disk; that the door is installed is a fact that the agent would tell
	 * again. */
	answer(grant, true, &none);
	struct store_txn *txn = core_fact_txn(grant->core);
	if (!txn)
		return;
	grant_fill_entry(grant, ENTRY_INSTALLED, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant->record);
	grant->writes++;
	store_submit(grant->core->store, txn, installed_committed, grant);
}

void grant_refused(struct grant *grant, const char *cause)
{
	struct error err;
	if (grant->ended)
		return;
	error_reason(&err, STATUS_FAILED_PRECONDITION, REASON_GATEWAY_REFUSED,
		"gateway %s refused the door: %s", grant->record.gateway, cause);
	id_format(&grant->record.id, err.grant);
	answer(grant, true, &err);
	grant_end(grant, END_GATEWAY_REFUSED, "", cause);
}

/* ---- requests ---- */

/* The database knows this request id from a grant that has ended: a retry, perhaps of before a
 * restart (I6). */
static void known_request(
	void *arg, const struct grant_record *found, size_t count, const struct error *err)
{
	struct grant *grant = arg;
	struct error result = *err;
	grant->writes--;
	if (!err->status && count == 1 && grant_same_request(found, &grant->record)) {
		free(grant->record.context);
		grant->record = *found;
		grant->record.context = NULL;
		grant->record.context_size = 0;
	} else if (!err->status) {
		error_set(&result, STATUS_ALREADY_EXISTS,
			"request_id: it was used for a different request: make a new one for each "
			"request");
		if (count == 1)
			id_format(&found->id, result.grant);
	}
	answer(grant, true, &result);
	if (!grant->core->stopping)
		grant_free(grant);
}

static void refused_by_journal(struct grant *grant, const struct error *err)
{
	/* Nothing of it is on disk: as if it had never been asked for. */
	grant->ended = true;
	make_dead(grant);
	unlink_request(grant);
	if (err->status == STATUS_ALREADY_EXISTS && !id_is_zero(&grant->record.request_id) &&
		!grant->core->stopping) {
		struct store_grant_query query = {
			.request_id = grant->record.request_id, .limit = 1};
		snprintf(query.filter, sizeof query.filter, "%s", grant->record.filter);
		grant->writes++;
		store_read_grants(grant->core->store, &query, known_request, grant);
		return;
	}
	answer(grant, true, err);
	if (grant->writes == 0 && !grant->core->stopping)
		grant_free(grant);
}

static void granted_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	(void)sequence;
	grant->writes--;
	grant->timing.commit_us = (uint64_t)(clock_mono_us() - grant->handed_us);
	if (err->status) {
		refused_by_journal(grant, err);
		return;
	}
	grant->committed = true;
	if (grant->ended) { /* cancelled or too late meanwhile: its door was never sent */
		grant_reap(grant);
		return;
	}
	answer(grant, false, err);
	grant_enqueue(grant);
}

static void denied_committed(void *arg, uint64_t sequence, const struct error *err)
{
	struct grant *grant = arg;
	struct error denial = *err;
	(void)sequence;
	grant->writes--;
	if (err->status == STATUS_OK) {
		bool by_protocol = grant->record.reason == REASON_DENIED_PROTOCOL_RULES;
		const char *type = by_protocol ? "protocol rules" : "site-and-content rules";
		if (grant->record.rule[0])
			error_reason(&denial, STATUS_PERMISSION_DENIED,
				(enum reason)grant->record.reason,
				"denied by %s: rule \"%s\" denies %s", type, grant->record.rule,
				grant->record.protocol);
		else
			error_reason(&denial, STATUS_PERMISSION_DENIED,
				(enum reason)grant->record.reason,
				"denied by %s: no rule allows %s: an administrator can allow it "
				"with `postern policy allow-protocol %s`",
				type, grant->record.protocol, grant->record.protocol);
		snprintf(denial.rule, sizeof denial.rule, "%s", grant->record.rule);
		id_format(&grant->record.id, denial.grant);
	}
	answer(grant, true, &denial);
	grant->end_committed = true;
	if (!grant->core->stopping)
		grant_free(grant);
}

static enum status check_scope(
	const struct core *core, const struct grant_ask *ask, struct error *err)
{
	const struct principal *asker = ask->asker;
	if (ask->is_admin || !asker)
		return STATUS_OK;
	if (!principal_covers(asker, ask->record.gateway))
		return error_reason(err, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE,
			"filter %s may not ask for doors of gateway %s: its scope is %s",
			asker->record.name, ask->record.gateway, asker->record.gateways);
	uint64_t most = asker->record.max_grants ? asker->record.max_grants
						 : core->config->max_live_grants_per_filter;
	if (asker->live_grants >= most)
		return error_reason(err, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA,
			"filter %s has %llu live grants, its limit: cancel some or wait for their "
			"end",
			asker->record.name, (unsigned long long)most);
	return STATUS_OK;
}

/* Completes the record from session, defaults and definitions, or says what is wrong with it. */
static enum status complete(struct core *core, const struct grant_ask *ask,
	struct grant_record *record, struct session **ret_session, struct gateway **ret_gateway,
	const struct protocol_record **ret_protocol, struct error *err)
{
	*ret_session = NULL;
	if (!id_is_zero(&record->session)) {
		struct session *session = session_find(core, &record->session);
		if (!session || session->closing ||
			(!ask->is_admin && strcmp(session->record.filter, record->filter) != 0))
			return error_field(err, "session",
				"session: no open session of yours has this id: open one first");
		if (record->client.family == ADDR_NONE)
			record->client = session->record.client;
		if (record->gateway[0] == '\0')
			snprintf(record->gateway, sizeof record->gateway, "%s",
				session->record.gateway);
		if (!addr_equal(&record->client, &session->record.client))
			return error_field(
				err, "client", "client: differs from the session's client");
		if (strcmp(record->gateway, session->record.gateway) != 0)
			return error_field(err, "gateway",
				"gateway: differs from the session's gateway %s",
				session->record.gateway);
		*ret_session = session;
	}
	if (record->gateway[0] == '\0')
		return error_field(err, "gateway", "gateway: name one, or a session");
	*ret_gateway = gateway_find(core, record->gateway);
	if (!*ret_gateway)
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"gateway %s: unknown: see `postern gateway list`", record->gateway);
	*ret_protocol = policy_find_protocol(&core->policy, ask->protocol);
	if (!*ret_protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not registered: see `postern protocol list`",
			ask->protocol);
	snprintf(record->protocol, sizeof record->protocol, "%s", (*ret_protocol)->name);
	struct grant_limits limits = {.default_lifetime_ms = core->config->default_lifetime_ms,
		.max_lifetime_ms = core->config->max_lifetime_ms,
		.unused_timeout_ms = core->config->unused_timeout_ms};
	return grant_complete(record, &limits, err);
}

struct grant *core_find_request(
	const struct core *core, const char *filter, const struct id *request_id)
{
	struct table_node *node =
		table_find(&core->requests, request_id->bytes, sizeof request_id->bytes);
	struct grant *grant = node ? TABLE_OWNER(node, struct grant, by_request) : NULL;
	return grant && strcmp(grant->record.filter, filter) == 0 ? grant : NULL;
}

static enum status join_request(struct grant *grant, const struct grant_record *record,
	bool until_decided, waiter_cb done, void *arg, struct waiter **ret_waiter,
	struct error *err)
{
	if (!grant_same_request(&grant->record, record)) {
		error_set(err, STATUS_ALREADY_EXISTS,
			"request_id: it was used for a different request: make a new one for each "
			"request");
		id_format(&grant->record.id, err->grant);
		return STATUS_ALREADY_EXISTS;
	}
	bool settled = grant->ended || grant->record.state == GRANT_ACTIVE ||
		(until_decided && grant->committed);
	if (settled) {
		struct error none = {0};
		done(arg, grant, &none);
		*ret_waiter = NULL;
		return STATUS_OK;
	}
	*ret_waiter = waiter_add(grant, until_decided, done, arg);
	return *ret_waiter
		? STATUS_OK
		: error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
}

static enum status start(struct core *core, struct grant *grant, enum entry_kind kind,
	store_done_cb done, struct error *err)
{
	struct store_txn *txn = store_txn_new(core->store);
	struct entry entry;
	if (!txn)
		return error_reason(err, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE,
			"the journal is behind: try again");
	fill_decision(grant, kind, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_grant(txn, &grant->record);
	grant->writes++;
	grant->handed_us = clock_mono_us();
	store_submit(core->store, txn, done, grant);
	return STATUS_OK;
}

enum status core_request(struct core *core, const struct grant_ask *ask, waiter_cb done, void *arg,
	struct waiter **ret_waiter, struct error *err)
{
	struct grant_record record = ask->record;
	const struct protocol_record *protocol = NULL;
	const struct rule_record *rule = NULL;
	struct session *session = NULL;
	struct gateway *gateway = NULL;
	struct grant *grant;
	enum status status = complete(core, ask, &record, &session, &gateway, &protocol, err);
	if (status)
		return status;
	grant = id_is_zero(&record.request_id)
		? NULL
		: core_find_request(core, record.filter, &record.request_id);
	if (grant)
		return join_request(grant, &record, ask->until_decided, done, arg, ret_waiter, err);
	struct grant_ask scoped = *ask;
	snprintf(scoped.record.gateway, sizeof scoped.record.gateway, "%s", record.gateway);
	status = check_scope(core, &scoped, err);
	if (status)
		return status;
	enum policy_verdict verdict = policy_decide(&core->policy, protocol, &rule);
	bool allowed = verdict == POLICY_ALLOWED;
	if (allowed && !gateway_is_up(gateway))
		return error_reason(err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN,
			"gateway %s is not connected: its agent must reach the server",
			record.gateway);
	record.id = id_new();
	record.created_us = clock_real_us();
	record.expires_us = record.created_us + (int64_t)record.lifetime_ms * 1000;
	record.state = allowed ? GRANT_PENDING : GRANT_DENIED;
	if (!allowed) {
		record.ended_us = record.created_us;
		record.request_id = (struct id){
			{0}}; /* a denied request may be asked again when the rules have changed */
		if (rule)
			snprintf(record.rule, sizeof record.rule, "%s", rule->name);
	}
	record.context = record.context_size ? malloc(record.context_size) : NULL;
	if (record.context_size && !record.context)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (record.context_size)
		memcpy(record.context, ask->record.context, record.context_size);
	grant = grant_new(core, &record, gateway, ask->is_admin ? NULL : ask->asker);
	if (!grant) {
		free(record.context);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	}
	grant->session = session;
	*ret_waiter = waiter_add(grant, ask->until_decided, done, arg);
	grant->timing.decide_us = (uint64_t)(clock_mono_us() - ask->began_us);
	status = *ret_waiter
		? start(core, grant, allowed ? ENTRY_GRANTED : ENTRY_DENIED,
			  allowed ? granted_committed : denied_committed, err)
		: error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (status) {
		if (*ret_waiter)
			waiter_unlink(*ret_waiter);
		free(*ret_waiter);
		grant_free(grant);
		return status;
	}
	if (allowed) {
		make_live(grant);
		if (session)
			session_touch(session);
	} else {
		/* Set after the row was copied: a denied grant's row has no end reason, the enum is
		 * the wire's. */
		grant->record.reason = (uint8_t)(verdict == POLICY_DENIED_BY_PROTOCOL_RULES
				? REASON_DENIED_PROTOCOL_RULES
				: REASON_DENIED_SITE_AND_CONTENT_RULES);
		grant->ended = true;
	}
	return STATUS_OK;
}

void core_waiter_cancel(struct waiter *waiter, bool deadline_passed)
{
	struct grant *grant = waiter->grant;
	waiter_unlink(waiter);
	free(waiter);
	if (deadline_passed && !grant->ended && !grant->waiters &&
		grant->record.state == GRANT_PENDING)
		grant_end(grant, END_DEADLINE_MISSED, "",
			"the gateway did not acknowledge the door before the caller's deadline");
	if (grant->ended)
		grant_reap(grant);
}

struct grant *core_find_grant(const struct core *core, const struct id *id)
{
	struct table_node *node = table_find(&core->grants, id->bytes, sizeof id->bytes);
	return node ? TABLE_OWNER(node, struct grant, by_id) : NULL;
}

enum status core_cancel(struct core *core, struct grant *grant, enum end_reason reason,
	const char *actor, waiter_cb done, void *arg, struct error *err)
{
	(void)core;
	if (grant->ended)
		return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"the grant has already ended: %s",
			end_reason_name((enum end_reason)grant->record.reason));
	/* Those who wait for the door hear of its end; the canceller waits for the journal. */
	struct error cancelled;
	error_reason(&cancelled, STATUS_ABORTED, REASON_ALREADY_ENDED,
		"the grant was cancelled before it was installed");
	answer(grant, true, &cancelled);
	if (!waiter_add(grant, false, done, arg))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	grant_end(grant, reason, actor, "");
	return STATUS_OK;
}

struct each {
	void (*cb)(struct grant *grant, void *arg);
	void *arg;
};

static void each(struct table_node *node, void *arg)
{
	struct each *each_arg = arg;
	each_arg->cb(TABLE_OWNER(node, struct grant, by_id), each_arg->arg);
}

void core_each_grant(struct core *core, void (*cb)(struct grant *grant, void *arg), void *arg)
{
	struct each each_arg = {cb, arg};
	table_each(&core->grants, each, &each_arg);
}

/* ---- start and end of the server ---- */

void grant_load(struct core *core, const struct grant_record *record)
{
	struct grant_record copy = *record;
	struct gateway *gateway = gateway_find(core, record->gateway);
	copy.context = record->context_size ? malloc(record->context_size) : NULL;
	if (copy.context)
		memcpy(copy.context, record->context, record->context_size);
	else
		copy.context_size = 0;
	struct grant *grant = gateway ? grant_new(core, &copy, gateway,
						principals_find(&core->principals, record->filter))
				      : NULL;
	if (!grant) {
		free(copy.context);
		return;
	}
	grant->committed = true;
	if (!grant_is_live((enum grant_state)record->state)) {
		grant->ended = grant->end_committed = true;
		return;
	}
	grant->session = id_is_zero(&record->session) ? NULL : session_find(core, &record->session);
	make_live(grant);
	grant_enqueue(grant);
}

static void free_grant(struct table_node *node, void *arg)
{
	struct grant *grant = TABLE_OWNER(node, struct grant, by_id);
	(void)arg;
	while (grant->waiters) {
		struct waiter *waiter = grant->waiters;
		grant->waiters = waiter->next;
		free(waiter);
	}
	grant_free(grant);
}

void grants_fini(struct core *core)
{
	table_each(&core->grants, free_grant, NULL);
	table_fini(&core->grants);
	table_fini(&core->requests);
}
