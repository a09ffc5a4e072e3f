/* Every allocation of the loop's thread fails once, the n-th for n from 1 until none is left to
 * fail, during the lives of two grants, a session and their flows. Nothing may crash or leak
 * (AddressSanitizer); everyone who waits is answered exactly once; afterwards all works as before.
 * Linked with --wrap. */
#include <pthread.h>

#include "server/core/bundle.h"
#include "server/core/revision.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
#include "tests/unit/failing_allocator.h"
#include "tests/unit/server/store_fixture.h"

static pthread_t loop_thread;

static bool allocation_fails(void)
{
	return pthread_equal(pthread_self(), loop_thread) && is_the_nth();
}

/* ---- a gateway whose agent acknowledges at once ---- */

static struct fixture fixture;
static struct core core;
static struct server_config config = {.default_lifetime_ms = 60000,
	.max_lifetime_ms = 60000,
	.unused_timeout_ms = 60000,
	.session_idle_limit_ms = 60000,
	.request_deadline_ms = 500,
	.reservation_timeout_ms = 30000,
	.max_live_grants_per_filter = 100000,
	.max_open_sessions_per_filter = 100};
static struct gateway *gateway;
static struct agent_link link_;
static uint64_t sequence, batches_under_way;
static bool refused; /* a report: it is sent again */

static bool agent_ready(void *arg)
{
	(void)arg;
	return true;
}

/* Items: the newest, the newest acknowledged, and the newest whose acknowledgement is on disk. */
static uint64_t told, acknowledged, applied;

static bool agent_send(void *arg, const struct sync_item *item)
{
	(void)arg;
	told = item->sequence;
	return true;
}

static void agent_end(void *arg, const char *why)
{
	(void)arg;
	(void)why;
}

static void on_batch(void *arg, uint64_t last, const struct error *err)
{
	(void)last;
	if (!err->status && arg)
		applied = acknowledged;
	refused |= err->status != STATUS_OK;
	batches_under_way--;
}

static void report(enum report_kind kind, const struct id *grant, uint64_t flow)
{
	struct batch *batch = batch_new(1);
	if (!batch)
		batch = batch_new(1); /* only one allocation fails */
	batch->reports[0].sequence = ++sequence;
	batch->reports[0].kind = kind;
	batch->reports[0].grant = *grant;
	batch->reports[0].told.flow.id = flow;
	batch->reports[0].told.flow.transport = 6;
	batch->reports[0].sync_sequence = told;
	if (kind == REPORT_APPLIED)
		acknowledged = told;
	batch->done = on_batch;
	batch->arg = kind == REPORT_APPLIED ? &told : NULL;
	batches_under_way++;
	inbox_put(gateway, batch);
}

static void attach(void)
{
	told = applied = 0;
	link_ = (struct agent_link){.ready = agent_ready, .send = agent_send, .end = agent_end};
	gateway->connection = 1;
	gateway->joined = true;
	externals_set_range(&gateway->externals, 10000, 60000);
	gateway_attach(gateway, &link_);
}

/* ---- callers ---- */

struct caller {
	struct waiter waiter;
	unsigned answers;
	struct error err;
	struct id grant;
};

static void on_answer(void *arg, const struct grant *grant, const struct error *err)
{
	struct caller *caller = arg;
	caller->answers++;
	caller->err = *err;
	caller->grant = grant->record.id;
}

static void wait_a_little(int64_t deadline)
{
	struct id none = {{0}};
	cr_assert_lt(clock_mono_us(), deadline, "nobody answers");
	if (told != applied && batches_under_way == 0)
		report(REPORT_APPLIED, &none, 0);
	loop_step(fixture.loop, 20);
}

static void wait_for(struct caller *caller)
{
	int64_t deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	while (caller->answers == 0 && !core.broken)
		wait_a_little(deadline);
	if (caller->answers == 0) {
		waiter_leave(&caller->waiter, LEAVE_GONE);
		caller->err.status = STATUS_UNAVAILABLE;
		return;
	}
	cr_assert_eq(caller->answers, 1);
	cr_assert_null(caller->waiter.grant);
}

static struct grant_ask outbound(const struct id *session, uint16_t port)
{
	static uint8_t context[] = "abc";
	struct grant_ask ask = {.protocol = "ftp",
		.asker = principals_find(&core.principals, "filter"),
		.until = UNTIL_INSTALLED,
		.began_us = clock_mono_us(),
		.deadline_us = CLOCK_NEVER};
	snprintf(ask.record.filter, sizeof ask.record.filter, "filter");
	snprintf(ask.record.gateway, sizeof ask.record.gateway, "gw1");
	(void)addr_parse("10.77.1.2", &ask.record.client);
	(void)addr_parse("10.77.2.2", &ask.record.remote.addr);
	ask.record.remote.port = port;
	ask.record.transport = 6;
	ask.record.request_id = id_new();
	ask.record.session = *session;
	ask.record.context = context;
	ask.record.context_size = sizeof context;
	return ask;
}

/* Two remotes, an external port that the server chooses. */
static struct grant_ask inbound(uint16_t port)
{
	static struct addr remotes[2];
	struct id none = {{0}};
	struct grant_ask ask = outbound(&none, 0);
	memset(&ask.record.remote, 0, sizeof ask.record.remote);
	(void)addr_parse("10.77.2.2", &remotes[0]);
	(void)addr_parse("10.77.2.3", &remotes[1]);
	ask.record.inbound = true;
	ask.record.client_port = port;
	ask.record.remotes = remotes;
	ask.record.remote_count = 2;
	ask.record.flags = GRANT_ALLOW_MULTIPLE;
	(void)addr_parse("10.77.2.101", &ask.record.external.addr);
	return ask;
}

/* False: refused or failed, and said why. */
static bool request_of(struct caller *caller, const struct grant_ask *ask)
{
	memset(caller, 0, sizeof *caller);
	caller->waiter.done = on_answer;
	caller->waiter.arg = caller;
	if (core_request(&core, ask, &caller->waiter, &caller->err)) {
		cr_assert_neq(caller->err.text[0], '\0');
		return false;
	}
	wait_for(caller);
	return caller->err.status == STATUS_OK;
}

static bool request(struct caller *caller, const struct id *session, uint16_t port)
{
	struct grant_ask ask = outbound(session, port);
	return request_of(caller, &ask);
}

enum what { CANCEL, CUT, RENEW, COMMIT };

/* A further decision about the caller's grant. */
static bool change(struct caller *caller, enum what what)
{
	struct grant *grant = grant_find(&core, &caller->grant);
	struct waiter *waiter = &caller->waiter;
	enum status status = STATUS_OK;
	if (!grant)
		return false;
	caller->answers = 0;
	if (what == RENEW)
		status = core_renew(grant, 0, "filter", waiter, &caller->err);
	waiter->until = what == COMMIT ? UNTIL_INSTALLED : waiter->until;
	if (what == COMMIT)
		status = core_commit(grant, "filter", CLOCK_NEVER, waiter, &caller->err);
	if (what == CANCEL || what == CUT)
		status = core_cancel(&core, grant, END_CANCELLED_BY_FILTER, "filter", what == CUT,
			waiter, &caller->err);
	if (status) {
		cr_assert_neq(caller->err.text[0], '\0');
		return false;
	}
	wait_for(caller);
	return caller->err.status == STATUS_OK;
}

static bool cancel(struct caller *caller)
{
	return change(caller, CANCEL);
}

struct bundler {
	struct bundle_waiter waiter;
	unsigned answers;
	enum status status;
};

static void on_bundle(void *arg, struct bundle_waiter *waiter, const struct error *err)
{
	struct bundler *bundler = arg;
	bundler->answers++;
	bundler->status = err->status;
	bundle_waiter_fini(waiter);
}

static bool settle_bundle(struct bundler *bundler)
{
	int64_t deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	while (bundler->answers == 0 && !core.broken)
		wait_a_little(deadline);
	if (bundler->answers == 0) {
		bundle_leave(&bundler->waiter, LEAVE_GONE);
		bundle_waiter_fini(&bundler->waiter);
		return false;
	}
	cr_assert_eq(bundler->answers, 1);
	return bundler->status == STATUS_OK;
}

/* Two grants as one, asked for twice, and ended. */
static bool bundle_once(uint16_t port)
{
	static struct bundler bundler;
	struct id none = {{0}}, bundle = id_new();
	struct grant_ask asks[2] = {outbound(&none, port), inbound(port)};
	struct error err;
	for (int i = 0; i < 3; i++) {
		memset(&bundler, 0, sizeof bundler);
		bundler.waiter.done = on_bundle;
		bundler.waiter.arg = &bundler;
		enum status status = i < 2
			? core_request_bundle(&core, &bundle, asks, 2, &bundler.waiter, &err)
			: core_cancel_bundle(&core, &bundle, "filter", END_CANCELLED_BY_FILTER,
				  "filter", false, &bundler.waiter, &err);
		if (status || !settle_bundle(&bundler))
			return false;
	}
	return true;
}

struct opener {
	struct session_waiter waiter;
	unsigned answers;
	struct id id;
	enum status status;
};

static void on_session(void *arg, const struct session *session, const struct error *err)
{
	struct opener *opener = arg;
	opener->answers++;
	opener->id = session->record.id;
	opener->status = err->status;
}

static bool settle_session(struct opener *opener)
{
	int64_t deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	while (opener->answers == 0 && !core.broken)
		wait_a_little(deadline);
	if (opener->answers == 0) {
		session_forget_waiter(&opener->waiter);
		return false;
	}
	cr_assert_eq(opener->answers, 1);
	return opener->status == STATUS_OK;
}

static bool open_session(struct opener *opener)
{
	struct session_record record = {.id = id_new(), .idle_limit_ms = 60000};
	struct error err;
	memset(opener, 0, sizeof *opener);
	opener->waiter = (struct session_waiter){on_session, opener, NULL};
	snprintf(record.gateway, sizeof record.gateway, "gw1");
	snprintf(record.filter, sizeof record.filter, "filter");
	(void)addr_parse("10.77.1.2", &record.client);
	(void)endpoint_parse("10.77.1.2:40000", true, &record.primary.client);
	(void)endpoint_parse("10.77.2.2:21", true, &record.primary.remote);
	record.primary.transport = 6;
	return !session_open(&core, &record, CLOCK_NEVER, &opener->waiter, &err) &&
		settle_session(opener);
}

static bool close_session(struct opener *opener)
{
	struct session *session = session_find(&core, &opener->id);
	struct error err;
	opener->answers = 0;
	return session && !session_close(session, "filter", &opener->waiter, &err) &&
		settle_session(opener);
}

/* ---- the policy ---- */

static unsigned applied_revisions;
static struct error revision_err;

static void on_revision(void *arg, const struct revision_result *answer, const struct error *err)
{
	(void)arg;
	(void)answer;
	applied_revisions++;
	revision_err = *err;
}

/* The current document with a rule that no other life has added. */
static bool revise(void)
{
	static unsigned count;
	static struct rule_record rule; /* outlives a call that is answered at the end */
	struct revision_ask ask = {.allow = &rule};
	int64_t deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	uint64_t before = revision_current(&core)->number;
	rule = (struct rule_record){.type = 1, .protocol = "ftp"};
	snprintf(rule.name, sizeof rule.name, "rule %u", count++);
	applied_revisions = 0;
	revision_apply(&core, &ask, on_revision, NULL);
	while (applied_revisions == 0 && !core.broken)
		wait_a_little(deadline);
	cr_assert(core.broken || applied_revisions == 1);
	if (applied_revisions == 0)
		revision_forget(&core, NULL);
	bool ok = applied_revisions == 1 && !revision_err.status;
	cr_assert_eq(revision_current(&core)->number, before + ok);
	cr_assert_eq(policy_revision(core.policy), before + ok);
	return ok;
}

/* ---- a life ---- */

static void flow_of(const struct caller *caller, uint64_t flow)
{
	do {
		refused = false;
		report(REPORT_FLOW_OPENED, &caller->grant, flow);
		report(REPORT_FLOW_CLOSED, &caller->grant, flow);
		while (batches_under_way > 0)
			loop_step(fixture.loop, 20);
	} while (refused && !core.broken);
}

/* Inbound, renewed and cut; reserved and committed; two as one. */
static bool live_further(uint16_t port)
{
	struct caller caller;
	struct grant_ask ask = inbound(port);
	bool ok = request_of(&caller, &ask);
	if (ok)
		flow_of(&caller, port);
	ok = ok && change(&caller, RENEW) && change(&caller, CUT);
	ask.reserve = true;
	ask.until = UNTIL_DECIDED;
	ask.record.request_id = id_new();
	ok &= request_of(&caller, &ask) && change(&caller, COMMIT) && cancel(&caller);
	return bundle_once(port) && revise() && ok;
}

static bool live_once(uint16_t port)
{
	struct caller used, cancelled, tied;
	static struct opener session; /* its answer may come when the store closes */
	struct id none = {{0}};
	bool ok = request(&used, &none, port);
	if (ok)
		flow_of(&used, port);
	ok &= request(&cancelled, &none, port) && cancel(&cancelled);
	ok &= open_session(&session);
	if (!ok)
		return false;
	ok = request(&tied, &session.id, port);
	return close_session(&session) && ok;
}

static void populate(void)
{
	struct store_txn *txn = store_txn_new(fixture.store);
	struct principal_record filter = {.name = "filter",
		.role = 3,
		.clients = "10.77.0.0/16,fd77::/32",
		.destinations = "10.77.2.0/24"};
	struct protocol_record protocol = {
		.guid = id_new(), .name = "ftp", .transport = 6, .shared = true, .low_ports = true};
	struct rule_record rule = {.name = "allow ftp", .type = 1, .protocol = "ftp"};
	store_txn_put_principal(txn, &filter);
	store_txn_put_protocol(txn, &protocol);
	store_txn_put_rule(txn, &rule);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	fixture_add_gateway(&fixture, "gw1");
}

static void begin(void)
{
	struct error err = {0};
	fixture_begin_in(&fixture, "/dev/shm");
	populate();
	cr_assert_eq(core_init(&core, fixture.loop, &config, fixture.store, &err), STATUS_OK);
	core_begin(&core);
	gateway = gateway_find(&core, "gw1");
	attach();
	loop_thread = pthread_self();
}

static void stop(void)
{
	core_stop(&core);
	gateway_lost(gateway, "the server stops");
	fixture_close(&fixture);
	core_fini(&core);
}

static void restart(void)
{
	struct error err;
	stop();
	fixture_open(&fixture);
	cr_assert_eq(core_init(&core, fixture.loop, &config, fixture.store, &err), STATUS_OK);
	core_begin(&core);
	gateway = gateway_find(&core, "gw1");
}

static void end(void)
{
	stop();
	fixture_end(&fixture);
}

static void live_through_failures(bool (*live)(uint16_t port))
{
	bool failed_before = false;
	begin();
	cr_assert(live(999), "without failures it works");
	for (unsigned n = 1; n < 2000; n++) {
		until_failure = n;
		bool ok = live((uint16_t)(1000 + n));
		bool none_failed = until_failure > 0;
		until_failure = 0;
		failed_before |= !ok;
		while (batches_under_way > 0) /* some travel later */
			loop_step(fixture.loop, 20);
		if (core.broken)
			restart(); /* as the daemon does */
		if (!gateway->link)
			attach();
		cr_assert(live((uint16_t)(20000 + n)), "after failure %u", n);
		if (none_failed) {
			cr_assert(ok && failed_before);
			cr_assert_gt(n, 50);
			cr_expect_eq(gateway->live_grants,
				core.principals.first->live_grants); /* the only filter */
			end();
			return;
		}
	}
	cr_assert_fail("there is always one more to fail");
}

Test(core_allocation, every_allocation_fails_once, .timeout = 110)
{
	live_through_failures(live_once);
}

Test(core_allocation, every_further_allocation_fails_once, .timeout = 110)
{
	live_through_failures(live_further);
}

/* ---- loading ---- */

Test(core_allocation, every_allocation_of_a_start_fails_once, .timeout = 110)
{
	struct caller caller;
	struct opener session;
	struct error err = {0};
	struct id none = {{0}};
	begin();
	for (uint16_t port = 1; port <= 3; port++)
		cr_assert(request(&caller, &none, port));
	struct grant_ask ask = inbound(5);
	cr_assert(request_of(&caller, &ask));
	cr_assert(open_session(&session));
	cr_assert(request(&caller, &session.id, 4));
	report(REPORT_FLOW_OPENED, &caller.grant, 7);
	while (batches_under_way > 0)
		loop_step(fixture.loop, 20);
	for (unsigned n = 1; n < 2000; n++) {
		stop();
		fixture_open(&fixture);
		until_failure = n;
		enum status status = core_init(&core, fixture.loop, &config, fixture.store, &err);
		bool none_failed = until_failure > 0;
		until_failure = 0;
		if (status) {
			cr_assert_neq(err.text[0], '\0');
			core_fini(&core);
			cr_assert_eq(core_init(&core, fixture.loop, &config, fixture.store, &err),
				STATUS_OK);
		}
		core_begin(&core);
		gateway = gateway_find(&core, "gw1");
		cr_assert_eq(gateway->live_grants, 4); /* one was used up */
		attach();
		if (none_failed) {
			cr_assert_eq(status, STATUS_OK);
			cr_assert_gt(n, 20);
			end();
			return;
		}
	}
	cr_assert_fail("there is always one more to fail");
}
