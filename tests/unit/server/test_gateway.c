/* What an agent is told while it falls behind: a core, and a link of this test's own. */
#include "server/core/bundle.h"
#include "server/fleet/gateway.h"
#include "tests/unit/server/store_fixture.h"

#define ITEMS_MOST 16

static struct fixture fixture;
static struct core core;
static struct server_config config = {.default_lifetime_ms = 60000,
	.max_lifetime_ms = 60000,
	.unused_timeout_ms = 60000,
	.request_deadline_ms = 60000,
	.max_live_grants_per_filter = 1000};
static struct gateway *gateway;
static bool is_ready;
static size_t doors[ITEMS_MOST], items;

static bool ready(void *arg)
{
	(void)arg;
	return is_ready;
}

static bool send_item(void *arg, const struct sync_item *item)
{
	(void)arg;
	cr_assert_lt(items, ITEMS_MOST);
	doors[items++] = item->door_count;
	return true;
}

static void end_link(void *arg, const char *why)
{
	(void)arg;
	cr_assert_fail("%s", why);
}

static struct agent_link link_ = {.ready = ready, .send = send_item, .end = end_link};

static void begin(void)
{
	struct principal_record filter = {.name = "filter", .role = 3};
	struct protocol_record ftp = {
		.guid = id_new(), .name = "ftp", .transport = 6, .shared = true};
	struct rule_record rule = {.name = "allow ftp", .type = 1, .protocol = "ftp"};
	struct error err = {0};
	fixture_begin(&fixture);
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_principal(txn, &filter);
	store_txn_put_protocol(txn, &ftp);
	store_txn_put_rule(txn, &rule);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	fixture_add_gateway(&fixture, "gw1");
	cr_assert_eq(core_init(&core, fixture.loop, &config, fixture.store, &err), STATUS_OK);
	core_begin(&core);
	gateway = gateway_find(&core, "gw1");
	gateway->connection = 1;
	gateway->joined = true;
	is_ready = true;
	gateway_attach(gateway, &link_);
	cr_assert_eq(items, 1, "the snapshot, of nothing");
}

static void end(void)
{
	core_stop(&core);
	gateway_lost(gateway, "the test ends");
	fixture_close(&fixture);
	core_fini(&core);
	fixture_end(&fixture);
}

struct bundler {
	struct bundle_waiter waiter;
	unsigned answers;
};

static void on_bundle(void *arg, struct bundle_waiter *waiter, const struct error *err)
{
	struct bundler *bundler = arg;
	cr_expect_eq(err->status, STATUS_OK, "%s", err->text);
	bundler->answers++;
	bundle_waiter_fini(waiter);
}

/* Decided: its doors wait for the agent. */
static void ask_for(struct bundler *bundler, uint16_t first_port, size_t count)
{
	static struct grant_ask asks[BUNDLE_MAX];
	struct id bundle = id_new();
	struct error err = {0};
	for (size_t i = 0; i < count; i++) {
		struct grant_ask *ask = &asks[i];
		*ask = (struct grant_ask){.protocol = "ftp",
			.asker = principals_find(&core.principals, "filter"),
			.until = UNTIL_DECIDED,
			.began_us = clock_mono_us(),
			.deadline_us = CLOCK_NEVER};
		snprintf(ask->record.filter, sizeof ask->record.filter, "filter");
		snprintf(ask->record.gateway, sizeof ask->record.gateway, "gw1");
		(void)addr_parse("10.77.1.2", &ask->record.client);
		(void)addr_parse("10.77.2.2", &ask->record.remote.addr);
		ask->record.remote.port = (uint16_t)(first_port + i);
		ask->record.transport = 6;
	}
	bundler->waiter.done = on_bundle;
	bundler->waiter.arg = bundler;
	cr_assert_eq(core_request_bundle(&core, &bundle, asks, count, &bundler->waiter, &err),
		STATUS_OK, "%s", err.text);
	fixture_wait(&fixture, &bundler->answers, 1);
}

/* All or none, also when the agent's link breaks between two items. */
Test(gateway, a_bundle_that_does_not_fit_travels_in_the_next_item)
{
	enum { BUNDLES = 5, SIZE = 60 };
	static struct bundler bundlers[BUNDLES];
	begin();
	is_ready = false;
	for (unsigned i = 0; i < BUNDLES; i++)
		ask_for(&bundlers[i], (uint16_t)(2000 + i * SIZE), SIZE);
	cr_assert_eq(items, 1);
	is_ready = true;
	gateway_pump(gateway);
	cr_assert_eq(items, 3);
	cr_expect_eq(doors[1], SYNC_DOORS_MAX / SIZE * SIZE);
	cr_expect_eq(doors[2], BUNDLES * SIZE - doors[1]);
	end();
}
