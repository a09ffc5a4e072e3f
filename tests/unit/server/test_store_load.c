/* What is live comes back from disk as it was put there (I7), and what has ended does not. */
#include "tests/unit/server/store_fixture.h"

struct loaded {
	struct gateway_record gateway;
	struct principal_record principal;
	struct protocol_record protocol;
	struct session_record session;
	struct grant_record grants[4];
	struct flow_record flows[4];
	uint8_t context[16];
	size_t context_size;
	struct addr remotes[2];
	int gateways, principals, protocols, rules, sessions, grant_count, flow_count;
};

static void on_gateway(void *arg, const struct gateway_record *record)
{
	struct loaded *loaded = arg;
	loaded->gateway = *record;
	loaded->gateways++;
}

static void on_principal(void *arg, const struct principal_record *record)
{
	struct loaded *loaded = arg;
	loaded->principal = *record;
	loaded->principals++;
}

static void on_protocol(void *arg, const struct protocol_record *record)
{
	struct loaded *loaded = arg;
	loaded->protocol = *record;
	loaded->protocols++;
}

static void on_rule(void *arg, const struct rule_record *record)
{
	struct loaded *loaded = arg;
	(void)record;
	loaded->rules++;
}

static void on_session(void *arg, const struct session_record *record)
{
	struct loaded *loaded = arg;
	loaded->session = *record;
	loaded->sessions++;
}

static void on_grant(void *arg, const struct grant_record *record)
{
	struct loaded *loaded = arg;
	cr_assert_lt(loaded->grant_count, 4);
	if (record->context_size && record->context_size <= sizeof loaded->context) {
		memcpy(loaded->context, record->context, record->context_size);
		loaded->context_size = record->context_size;
	}
	for (size_t i = 0; i < record->remote_count && i < 2; i++)
		loaded->remotes[i] = record->remotes[i];
	loaded->grants[loaded->grant_count++] = *record;
}

static void on_flow(void *arg, const struct flow_record *record)
{
	struct loaded *loaded = arg;
	cr_assert_lt(loaded->flow_count, 4);
	loaded->flows[loaded->flow_count++] = *record;
}

static struct loaded load(struct fixture *fixture)
{
	struct loaded loaded = {0};
	struct error err = {0};
	struct store_visitor visitor = {&loaded, on_gateway, on_principal, on_protocol, on_rule,
		NULL, NULL, on_session, on_grant, on_flow};
	cr_assert_eq(store_load(fixture->store, &visitor, &err), STATUS_OK, "%s", err.text);
	return loaded;
}

static struct endpoint endpoint(const char *text)
{
	struct endpoint endpoint = {0};
	cr_assert(endpoint_parse(text, true, &endpoint));
	return endpoint;
}

static struct grant_record grant_of(uint8_t state)
{
	static uint8_t context[] = {0, 1, 2, 0xff};
	struct grant_record grant = {.id = id_new(),
		.request_id = id_new(),
		.session = id_new(),
		.gateway = "gw1",
		.filter = "ftp",
		.protocol = "ftp",
		.rule = "r",
		.client = endpoint("[fd77:1::2]:1").addr,
		.remote = endpoint("[fd77:2::2]:1046"),
		.external = endpoint("10.77.2.101:2000"),
		.transport = 6,
		.flags = 4,
		.notify = true,
		.state = state,
		.reason = 0,
		.lifetime_ms = 3600000,
		.max_connections = 7,
		.connections = 3,
		.created_us = 10,
		.expires_us = 20,
		.context = context,
		.context_size = sizeof context};
	return grant;
}

Test(store_load, everything_live_comes_back_as_it_was)
{
	struct fixture fixture;
	struct gateway_record gateway = {.name = "gw1",
		.labels = "a,b",
		.added_us = 1,
		.boot_id = "boot",
		.instance = "instance",
		.last_report = 9,
		.joined_us = 2};
	struct principal_record principal = {.name = "ftp",
		.role = 3,
		.token_hash = {1, 2, 3},
		.gateway = "",
		.gateways = "gw1,gw2",
		.max_grants = 5,
		.clients = "10.77.0.0/16,fd77::/32",
		.destinations = "10.77.2.0/24",
		.protocols = "ftp,sip",
		.grants_per_second = 50,
		.max_lifetime_ms = 60000,
		.added_us = 3};
	struct protocol_record protocol = {.guid = id_new(),
		.name = "ftp",
		.transport = 6,
		.primary_ports = {21, 2121, 65535},
		.primary_port_count = 3,
		.owner = "ftp",
		.shared = true,
		.remote_scope = REMOTE_PEER_NETWORK,
		.low_ports = true,
		.max_ports = 1024};
	struct rule_record rule = {.name = "protocol ftp", .type = 1, .protocol = "ftp"};
	struct session_record session = {.id = id_new(),
		.gateway = "gw1",
		.filter = "ftp",
		.user = "anna",
		.protocol = "ftp",
		.client = endpoint("10.77.1.2:1").addr,
		.primary = {.client = endpoint("10.77.1.2:40000"),
			.remote = endpoint("10.77.2.2:21"),
			.transport = 6},
		.idle_limit_ms = 1000,
		.opened_us = 4};
	struct addr remotes[2] = {endpoint("10.77.2.2:1").addr, endpoint("[fd77:2::2]:1").addr};
	struct grant_record grant = grant_of(2);
	grant.bundle = id_new();
	grant.inbound = grant.external_chosen = grant.clamped = grant.cut = true;
	grant.client_port = 4000;
	grant.remote_port_last = 65535;
	grant.renewals = 3;
	grant.revision = 9;
	snprintf(grant.user, sizeof grant.user, "anna");
	snprintf(grant.site_rule, sizeof grant.site_rule, "all sites");
	grant.remotes = remotes;
	grant.remote_count = 2;
	struct flow_record flow = {.gateway = "gw1",
		.boot_id = "boot",
		.grant = grant.id,
		.flow = {.id = UINT64_MAX - 1,
			.client = endpoint("[fd77:1::2]:5"),
			.remote = endpoint("[fd77:2::2]:1046"),
			.external = endpoint("[fd77:2::101]:5"),
			.transport = 6},
		.opened_us = 5};
	fixture_begin(&fixture);
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_gateway(txn, &gateway);
	store_txn_report_position(txn, "gw1", "instance 2", 12);
	store_txn_put_principal(txn, &principal);
	store_txn_put_protocol(txn, &protocol);
	store_txn_put_rule(txn, &rule);
	store_txn_put_session(txn, &session);
	store_txn_put_grant(txn, &grant);
	store_txn_put_flow(txn, &flow);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	fixture_close(&fixture);
	fixture_open(&fixture);
	struct loaded loaded = load(&fixture);
	cr_assert_eq(loaded.gateways, 1);
	cr_expect_str_eq(loaded.gateway.labels, "a,b");
	cr_expect_str_eq(loaded.gateway.boot_id, "boot");
	cr_expect_str_eq(loaded.gateway.instance, "instance 2");
	cr_expect_eq(loaded.gateway.last_report, 12);
	cr_assert_eq(loaded.principals, 1);
	cr_expect_eq(memcmp(loaded.principal.token_hash, principal.token_hash,
			     sizeof principal.token_hash),
		0);
	cr_expect_str_eq(loaded.principal.gateways, "gw1,gw2");
	cr_expect_eq(loaded.principal.max_grants, 5);
	cr_expect_str_eq(loaded.principal.clients, "10.77.0.0/16,fd77::/32");
	cr_expect_str_eq(loaded.principal.destinations, "10.77.2.0/24");
	cr_expect_str_eq(loaded.principal.protocols, "ftp,sip");
	cr_expect_eq(loaded.principal.grants_per_second, 50);
	cr_expect_eq(loaded.principal.max_lifetime_ms, 60000);
	cr_assert_eq(loaded.protocols, 1);
	cr_expect(id_equal(&loaded.protocol.guid, &protocol.guid));
	cr_expect_eq(loaded.protocol.primary_port_count, 3);
	cr_expect(loaded.protocol.shared);
	cr_expect(loaded.protocol.low_ports);
	cr_expect_eq(loaded.protocol.remote_scope, REMOTE_PEER_NETWORK);
	cr_expect_eq(loaded.protocol.max_ports, 1024);
	cr_expect_eq(memcmp(loaded.protocol.primary_ports, protocol.primary_ports,
			     sizeof protocol.primary_ports),
		0);
	cr_expect_eq(loaded.rules, 2);
	cr_assert_eq(loaded.sessions, 1);
	cr_expect(id_equal(&loaded.session.id, &session.id));
	cr_expect_str_eq(loaded.session.user, "anna");
	cr_expect(endpoint_equal(&loaded.session.primary.client, &session.primary.client));
	cr_expect(endpoint_equal(&loaded.session.primary.remote, &session.primary.remote));
	cr_assert_eq(loaded.grant_count, 1);
	cr_expect(id_equal(&loaded.grants[0].request_id, &grant.request_id));
	cr_expect(id_equal(&loaded.grants[0].session, &grant.session));
	cr_expect(addr_equal(&loaded.grants[0].client, &grant.client));
	cr_expect(endpoint_equal(&loaded.grants[0].remote, &grant.remote));
	cr_expect(endpoint_equal(&loaded.grants[0].external, &grant.external));
	cr_expect_eq(loaded.grants[0].connections, 3);
	cr_expect(loaded.grants[0].notify);
	cr_expect(loaded.grants[0].inbound && loaded.grants[0].external_chosen);
	cr_expect(loaded.grants[0].clamped && loaded.grants[0].cut);
	cr_expect_eq(loaded.grants[0].client_port, 4000);
	cr_expect_eq(loaded.grants[0].remote_port_last, 65535);
	cr_expect_eq(loaded.grants[0].renewals, 3);
	cr_expect(id_equal(&loaded.grants[0].bundle, &grant.bundle));
	cr_assert_eq(loaded.grants[0].remote_count, 2);
	cr_expect(addr_equal(&loaded.remotes[0], &grant.remotes[0]));
	cr_expect(addr_equal(&loaded.remotes[1], &grant.remotes[1]));
	cr_expect(endpoint_equal(&loaded.flows[0].flow.external, &flow.flow.external));
	cr_expect_eq(loaded.context_size, grant.context_size);
	cr_expect_eq(memcmp(loaded.context, grant.context, grant.context_size), 0);
	cr_assert_eq(loaded.flow_count, 1);
	cr_expect_eq(loaded.flows[0].flow.id, UINT64_MAX - 1);
	cr_expect(endpoint_equal(&loaded.flows[0].flow.client, &flow.flow.client));
	fixture_end(&fixture);
}

static void put_flow(struct store_txn *txn, const struct id *grant, uint64_t id, int64_t opened_us,
	int64_t closed_us)
{
	struct flow_record flow = {.gateway = "gw1",
		.boot_id = "b",
		.grant = *grant,
		.opened_us = opened_us,
		.closed_us = closed_us};
	flow.flow.id = id;
	flow.flow.transport = 6;
	store_txn_put_flow(txn, &flow);
}

Test(store_load, what_has_ended_does_not_come_back_but_flows_are_remembered_for_a_while)
{
	struct fixture fixture;
	int64_t now = clock_real_us(), long_ago = now - 16 * 60 * 1000000LL;
	struct grant_record live = grant_of(8), ended = grant_of(3), flowing = grant_of(3);
	struct session_record session = {.id = id_new(), .gateway = "gw1", .opened_us = 1};
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	struct store_txn *txn = store_txn_new(fixture.store);
	ended.ended_us = flowing.ended_us = 30;
	store_txn_put_session(txn, &session);
	session.closed_us = 2;
	store_txn_put_session(txn, &session);
	store_txn_put_grant(txn, &live);
	store_txn_put_grant(txn, &ended);
	store_txn_put_grant(txn, &flowing);
	put_flow(txn, &flowing.id, 1, now, 0);
	put_flow(txn, &live.id, 2, now, 0);
	put_flow(txn, &live.id, 2, now, now); /* the same flow, now closed */
	put_flow(txn, &live.id, 3, long_ago, long_ago);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	struct loaded loaded = load(&fixture);
	cr_expect_eq(loaded.sessions, 0);
	cr_assert_eq(loaded.grant_count, 2);
	cr_expect(id_equal(&loaded.grants[0].id, &live.id));
	cr_expect(id_equal(&loaded.grants[1].id, &flowing.id));
	cr_assert_eq(loaded.flow_count, 2);
	for (int i = 0; i < 2; i++)
		cr_expect_eq(loaded.flows[i].closed_us, loaded.flows[i].flow.id == 2 ? now : 0);
	fixture_end(&fixture);
}

/* The table of flows is a memory, not a journal: it does not grow for ever. */
Test(store_load, old_flows_are_forgotten)
{
	struct fixture fixture;
	struct id grant = id_new();
	int64_t long_ago = clock_real_us() - 16 * 60 * 1000000LL,
		deadline = clock_mono_us() + FIXTURE_DEADLINE_US;
	fixture_begin(&fixture);
	struct store_txn *txn = store_txn_new(fixture.store);
	for (uint64_t i = 0; i < 1000; i++)
		put_flow(txn, &grant, i, long_ago, long_ago);
	put_flow(txn, &grant, 5000, long_ago, 0);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	while (fixture_number(&fixture, "SELECT count(*) FROM flows") > 1) {
		struct entry entry = fixture_entry(ENTRY_INSTALLED);
		cr_assert_lt(clock_mono_us(), deadline);
		cr_assert_eq(fixture_commit_entry(&fixture, &entry, NULL), STATUS_OK);
	}
	cr_expect_eq(fixture_number(&fixture, "SELECT flow FROM flows"), 5000);
	fixture_end(&fixture);
}

/* An update changes what the contract says it changes, and nothing else. */
Test(store_load, an_update_keeps_what_a_grant_was_born_with)
{
	struct fixture fixture;
	struct grant_record grant = grant_of(1), later = grant;
	fixture_begin(&fixture);
	fixture_add_gateway(&fixture, "gw1");
	struct store_txn *txn = store_txn_new(fixture.store);
	store_txn_put_grant(txn, &grant);
	later.state = 2;
	later.connections = 5;
	later.external = endpoint("10.77.2.101:2001");
	later.expires_us = 40;
	later.cut = later.clamped = true;
	later.renewals = 1;
	later.client_port = 9;
	later.context = NULL;
	later.context_size = 0;
	snprintf(later.filter, sizeof later.filter, "another");
	store_txn_put_grant(txn, &later);
	cr_assert_eq(fixture_commit(&fixture, txn, NULL), STATUS_OK);
	struct loaded loaded = load(&fixture);
	cr_assert_eq(loaded.grant_count, 1);
	cr_expect_eq(loaded.grants[0].state, 2);
	cr_expect_eq(loaded.grants[0].connections, 5);
	cr_expect(endpoint_equal(&loaded.grants[0].external, &later.external));
	cr_expect_eq(loaded.grants[0].expires_us, 40);
	cr_expect(loaded.grants[0].cut && loaded.grants[0].clamped);
	cr_expect_eq(loaded.grants[0].renewals, 1);
	cr_expect_eq(loaded.grants[0].client_port, 0);
	cr_expect_str_eq(loaded.grants[0].filter, "ftp");
	cr_expect_eq(loaded.context_size, 4);
	fixture_end(&fixture);
}
