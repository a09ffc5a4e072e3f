/* What a filter may ask for, and how often. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "server/auth/principals.h"

#define SECOND 1000000

static struct principals principals;
static struct principal *filter;

static void begin(void)
{
	struct principal_record record = {.name = "sip1",
		.gateways = "gw1,gw22",
		.clients = "10.77.0.0/16,fd77:1::/64",
		.destinations = "198.51.100.0/24,fd77:2::/64",
		.protocols = "sip,rtp",
		.grants_per_second = 5,
		.max_lifetime_ms = 60000};
	principals_init(&principals);
	filter = principals_add(&principals, &record);
	cr_assert_not_null(filter);
}

static void end(void)
{
	principals_fini(&principals);
}

TestSuite(scope, .init = begin, .fini = end);

static struct addr addr_of(const char *text)
{
	struct addr addr = {0};
	if (text[0])
		cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

Test(scope, gateways)
{
	struct error err = {0};
	cr_expect_eq(scope_check_gateway(filter, "gw1", &err), STATUS_OK);
	cr_expect_eq(scope_check_gateway(filter, "gw22", &err), STATUS_OK);
	cr_expect_eq(scope_check_gateway(filter, "gw2", &err), STATUS_PERMISSION_DENIED);
	cr_expect_eq(err.reason, REASON_OUT_OF_SCOPE);
	cr_expect_str_eq(err.text,
		"filter sip1 may not ask for gateway gw2: the gateways of its scope are gw1,gw22");
	cr_expect_eq(scope_check_gateway(NULL, "gw2", &err), STATUS_OK);
}

/* The refusal names the limit: `names` stands in its text. */
Test(scope, grants)
{
	static const struct {
		const char *protocol, *client, *remote, *several;
		const char *names; /* NULL = within the scope */
	} rows[] = {
		{"sip", "10.77.1.2", "198.51.100.7", "", NULL},
		{"rtp", "fd77:1::2", "fd77:2::7", "", NULL},
		{"ftp", "10.77.1.2", "198.51.100.7", "",
			"protocol ftp: the protocols of its scope"},
		{"si", "10.77.1.2", "198.51.100.7", "", "protocol si:"},
		{"sip", "10.78.1.2", "198.51.100.7", "",
			"client 10.78.1.2: the clients of its scope are 10.77.0.0/16,fd77:1::/64"},
		{"sip", "fd77:1:0:1::2", "fd77:2::7", "", "client fd77:1:0:1::2"},
		{"sip", "10.77.1.2", "198.51.101.7", "",
			"remote 198.51.101.7: the destinations of its scope are 198.51.100.0/24"},
		{"sip", "fd77:1::2", "fd77:3::7", "", "remote fd77:3::7"},
		{"sip", "10.77.1.2", "", "", "doors for anybody: the destinations of its scope"},
		{"sip", "10.77.1.2", "", "198.51.100.8", NULL},
		{"sip", "10.77.1.2", "", "198.51.102.8", "remote 198.51.102.8"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct addr several[2] = {addr_of("198.51.100.1"), addr_of(rows[i].several)};
		struct grant_record grant = {.client = addr_of(rows[i].client),
			.remote.addr = addr_of(rows[i].remote),
			.remotes = several,
			.remote_count = rows[i].several[0] ? 2 : 0};
		struct error err = {0};
		snprintf(grant.protocol, sizeof grant.protocol, "%s", rows[i].protocol);
		enum status status = scope_check_grant(filter, &grant, &err);
		cr_expect_eq(
			status, rows[i].names ? STATUS_PERMISSION_DENIED : STATUS_OK, "row %zu", i);
		if (rows[i].names) {
			cr_expect_eq(err.reason, REASON_OUT_OF_SCOPE);
			cr_expect(strstr(err.text, rows[i].names), "row %zu: %s", i, err.text);
		}
		cr_expect_eq(scope_check_grant(NULL, &grant, &err), STATUS_OK);
	}
}

Test(scope, sessions)
{
	struct session_record session = {.client = addr_of("10.77.1.2")};
	struct error err = {0};
	cr_expect_eq(scope_check_session(filter, &session, &err), STATUS_OK);
	snprintf(session.protocol, sizeof session.protocol, "%s", "ftp");
	cr_expect_eq(scope_check_session(filter, &session, &err), STATUS_PERMISSION_DENIED);
	snprintf(session.protocol, sizeof session.protocol, "%s", "sip");
	session.client = addr_of("10.78.1.2");
	cr_expect_eq(scope_check_session(filter, &session, &err), STATUS_PERMISSION_DENIED);
	cr_expect_eq(scope_check_session(NULL, &session, &err), STATUS_OK);
}

Test(scope, an_empty_one_restricts_nothing)
{
	struct principal_record record = {.name = "free", .token_hash = {1}};
	struct principal *everywhere = principals_add(&principals, &record);
	struct grant_record grant = {.client = addr_of("10.1.1.1"), .protocol = "any"};
	struct error err = {0};
	cr_expect_eq(scope_check_gateway(everywhere, "gw", &err), STATUS_OK);
	cr_expect_eq(scope_check_grant(everywhere, &grant, &err), STATUS_OK);
	for (int i = 0; i < 10000; i++)
		cr_assert_eq(scope_take(everywhere, 0, 64, 0, &err), STATUS_OK);
	cr_expect_eq(scope_max_lifetime(everywhere, 1000), 1000);
}

/* Five at once, then one every 200 ms; what was not used does not add up. */
Test(scope, a_rate)
{
	struct error err = {0};
	int64_t now = 1000 * (int64_t)SECOND;
	for (int i = 0; i < 5; i++)
		cr_expect_eq(scope_take(filter, 0, 1, now, &err), STATUS_OK);
	cr_expect_eq(scope_take(filter, 0, 1, now, &err), STATUS_RESOURCE_EXHAUSTED);
	cr_expect_eq(err.reason, REASON_QUOTA);
	cr_expect_str_eq(err.text,
		"filter sip1 may ask for 5 grants a second, its "
		"grants_per_second: try again in 200 ms");
	cr_expect_eq(scope_take(filter, 0, 1, now + 199999, &err), STATUS_RESOURCE_EXHAUSTED);
	cr_expect(strstr(err.text, "in 1 ms"), "%s", err.text);
	cr_expect_eq(scope_take(filter, 0, 1, now + 200000, &err), STATUS_OK);
	cr_expect_eq(scope_take(filter, 0, 1, now + 200000, &err), STATUS_RESOURCE_EXHAUSTED);
	now += 3600 * (int64_t)SECOND;
	for (int i = 0; i < 5; i++)
		cr_expect_eq(scope_take(filter, 0, 1, now, &err), STATUS_OK);
	cr_expect_eq(scope_take(filter, 0, 1, now, &err), STATUS_RESOURCE_EXHAUSTED);
	/* A clock that stands still or goes back gives nothing. */
	cr_expect_eq(scope_take(filter, 0, 1, now - SECOND, &err), STATUS_RESOURCE_EXHAUSTED);
	cr_expect_eq(scope_take(filter, 0, 1, now, &err), STATUS_RESOURCE_EXHAUSTED);
}

/* Over any stretch of time no more than the rate and one burst, whatever the pattern. */
Test(scope, a_rate_in_the_long_run)
{
	struct error err = {0};
	int64_t now = 0;
	unsigned taken = 0, step = 12345;
	while (now < 100 * (int64_t)SECOND) {
		taken += scope_take(filter, 0, 1, now, &err) == STATUS_OK;
		step = step * 1103515245 + 12345;
		now += step % 100000;
	}
	cr_expect_leq(taken, 5 * 100 + 5);
	cr_expect_geq(taken, 5 * 100);
}

Test(scope, several_at_once)
{
	struct error err = {0};
	cr_expect_eq(scope_take(filter, 0, 6, 0, &err), STATUS_RESOURCE_EXHAUSTED);
	cr_expect(strstr(err.text, "6 at once are more"), "%s", err.text);
	cr_expect_eq(scope_take(filter, 0, 3, 0, &err), STATUS_OK);
	cr_expect_eq(scope_take(filter, 0, 3, 0, &err), STATUS_RESOURCE_EXHAUSTED);
	cr_expect_eq(scope_take(filter, 0, 2, 0, &err), STATUS_OK);
}

Test(scope, the_highest_rate_does_not_overflow)
{
	struct principal_record record = {
		.name = "fast", .token_hash = {2}, .grants_per_second = SCOPE_MAX_RATE};
	struct principal *fast = principals_add(&principals, &record);
	struct error err = {0};
	cr_expect_eq(scope_take(fast, 0, SCOPE_MAX_RATE, INT64_MAX, &err), STATUS_OK);
	cr_expect_eq(scope_take(fast, 0, 1, INT64_MAX, &err), STATUS_RESOURCE_EXHAUSTED);
}

Test(scope, lifetimes)
{
	cr_expect_eq(scope_max_lifetime(filter, 3600000), 60000);
	cr_expect_eq(scope_max_lifetime(filter, 1000), 1000);
	cr_expect_eq(scope_max_lifetime(NULL, 3600000), 3600000);
}
