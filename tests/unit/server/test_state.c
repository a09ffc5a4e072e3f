/* The states of a grant and the checks of a request. */
#include <criterion/criterion.h>
#include <netinet/in.h>

#include "server/grants/state.h"

static const struct grant_limits limits = {
	.default_lifetime_ms = 3600000, .max_lifetime_ms = 86400000, .unused_timeout_ms = 60000};

static struct grant_record request(const char *client, const char *remote)
{
	struct grant_record record = {.transport = IPPROTO_TCP};
	cr_assert(addr_parse(client, &record.client));
	cr_assert(addr_parse(remote, &record.remote.addr));
	record.remote.port = 1046;
	return record;
}

static const char *field_of(struct grant_record record)
{
	static struct error err;
	return grant_complete(&record, &limits, &err) == STATUS_OK ? NULL : err.field;
}

Test(state, ended_grants_stay_ended)
{
	for (int from = GRANT_USED; from <= GRANT_DENIED; from++)
		for (int to = GRANT_PENDING; to <= GRANT_DENIED; to++)
			cr_expect_not(
				grant_may_become((enum grant_state)from, (enum grant_state)to),
				"%d to %d", from, to);
	cr_expect(grant_may_become(GRANT_PENDING, GRANT_ACTIVE));
	cr_expect(grant_may_become(GRANT_ACTIVE, GRANT_USED));
	cr_expect_not(grant_may_become(GRANT_ACTIVE, GRANT_PENDING));
	cr_expect(grant_may_become(GRANT_RESERVED, GRANT_PENDING));
	cr_expect(grant_may_become(GRANT_RESERVED, GRANT_EXPIRED));
	cr_expect_not(grant_may_become(GRANT_RESERVED, GRANT_ACTIVE));
	cr_expect_not(grant_may_become(GRANT_PENDING, GRANT_RESERVED));
}

Test(state, every_end_has_a_state_and_a_name)
{
	for (int reason = END_USED_UP; reason <= END_BUNDLE_FAILED; reason++) {
		cr_expect_not(grant_is_live(grant_end_state((enum end_reason)reason)));
		cr_expect_str_neq(end_reason_name((enum end_reason)reason), "unknown");
	}
}

Test(state, bad_requests_name_the_field)
{
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	cr_expect_null(field_of(record));
	cr_expect_null(field_of(request("fd77:1::2", "fd77:2::2")));
	cr_expect_str_eq(field_of(request("10.77.1.2", "fd77:2::2")), "remote");
	cr_expect_str_eq(field_of(request("127.0.0.1", "10.77.2.2")), "client");
	cr_expect_str_eq(field_of(request("10.77.1.2", "224.0.0.1")), "remote");
	record.remote.port = 0;
	cr_expect_str_eq(field_of(record), "remote_port");
	record.remote.port = 1;
	record.flags = GRANT_BIDIRECTIONAL;
	cr_expect_str_eq(field_of(record), "flags");
	record.flags = GRANT_TIMEOUT | GRANT_ALLOW_MULTIPLE;
	cr_expect_str_eq(field_of(record), "flags");
	record.flags = 64;
	cr_expect_str_eq(field_of(record), "flags");
	record.flags = 0;
	record.max_connections = 13001;
	cr_expect_str_eq(field_of(record), "max_connections");
	record.max_connections = 0;
	record.context_size = 4097;
	cr_expect_str_eq(field_of(record), "context");
}

static struct grant_record inbound(const char *client, const char *remote)
{
	struct grant_record record = {
		.inbound = true, .transport = IPPROTO_TCP, .client_port = 4000};
	cr_assert(addr_parse(client, &record.client));
	if (remote[0])
		cr_assert(addr_parse(remote, &record.remote.addr));
	return record;
}

Test(state, bad_inbound_requests_name_the_field)
{
	struct addr remotes[ENTRY_REMOTES_MAX + 1];
	struct grant_record record = inbound("10.77.1.2", "");
	cr_expect_null(field_of(record), "anybody");
	cr_expect_null(field_of(inbound("10.77.1.2", "10.77.2.2")));
	cr_expect_null(field_of(inbound("fd77:1::2", "fd77:2::2")));
	cr_expect_str_eq(field_of(inbound("10.77.1.2", "fd77:2::2")), "remote");
	cr_expect_str_eq(field_of(inbound("10.77.1.2", "224.0.0.1")), "remote");
	record.client_port = 0;
	cr_expect_str_eq(field_of(record), "client_port");
	record = inbound("10.77.1.2", "10.77.2.2");
	record.remote.port = 20;
	cr_expect_str_eq(field_of(record), "remote_port");
	record.remote.port = 0;
	record.remote_port_last = 20;
	cr_expect_str_eq(field_of(record), "remote_port");
	record = inbound("10.77.1.2", "");
	for (uint8_t i = 0; i <= ENTRY_REMOTES_MAX; i++)
		remotes[i] = (struct addr){ADDR_IPV4, {10, 77, 2, (uint8_t)(200 - i)}};
	record.remotes = remotes;
	record.remote_count = ENTRY_REMOTES_MAX + 1;
	cr_expect_str_eq(field_of(record), "remotes");
	record.remote_count = ENTRY_REMOTES_MAX;
	cr_expect_null(field_of(record));
	for (size_t i = 1; i < ENTRY_REMOTES_MAX; i++)
		cr_expect_lt(addr_compare(&remotes[i - 1], &remotes[i]), 0, "sorted");
	remotes[3] = remotes[9];
	cr_expect_str_eq(field_of(record), "remotes", "twice");
	record.remote_count = 2;
	cr_assert(addr_parse("fd77:2::2", &remotes[1]));
	cr_expect_str_eq(field_of(record), "remotes", "of another family");
	record.remote_count = 1;
	record.remote.addr = remotes[0];
	cr_expect_str_eq(field_of(record), "remotes", "either one or several");
}

Test(state, one_of_several_remotes_is_one_remote)
{
	struct addr remote = {ADDR_IPV4, {10, 77, 2, 2}};
	struct grant_record record = inbound("10.77.1.2", "");
	struct error err;
	record.remotes = &remote;
	record.remote_count = 1;
	cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK, "%s", err.text);
	cr_expect_eq(record.remote_count, 0);
	cr_expect(addr_equal(&record.remote.addr, &remote));
}

Test(state, what_belongs_to_the_other_direction_is_refused)
{
	struct addr remote = {ADDR_IPV4, {10, 77, 2, 3}};
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	record.client_port = 4000;
	cr_expect_str_eq(field_of(record), "client_port");
	record.client_port = 0;
	record.remotes = &remote;
	record.remote_count = 1;
	cr_expect_str_eq(field_of(record), "remotes");
	record.remote_count = 0;
	record.remote_port_last = 1045;
	cr_expect_str_eq(field_of(record), "remote_port_last", "below the first");
	record.remote_port_last = 1050;
	cr_expect_null(field_of(record));
}

Test(state, an_external_address_is_of_the_clients_family_and_has_the_port)
{
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	record.external.port = 2000;
	cr_expect_str_eq(field_of(record), "external", "a port of which address?");
	cr_assert(addr_parse("10.77.2.101", &record.external.addr));
	cr_expect_null(field_of(record));
	record.external.port = 0;
	cr_expect_null(field_of(record), "any port");
	cr_assert(addr_parse("fd77:2::101", &record.external.addr));
	cr_expect_str_eq(field_of(record), "external");
	cr_assert(addr_parse("127.0.0.1", &record.external.addr));
	cr_expect_str_eq(field_of(record), "external");
	record = inbound("10.77.1.2", "");
	record.external.port = 2000;
	cr_expect_str_eq(field_of(record), "external");
}

Test(state, a_lifetime_that_is_cut_is_said_to_be)
{
	static const struct {
		uint32_t flags;
		uint64_t asked, got;
		bool clamped;
	} rows[] = {
		{0, 0, 3600000, false},
		{0, 86400000, 86400000, false},
		{0, 86400001, 86400000, true},
		{GRANT_TIMEOUT, 0, 60000, false},
		{GRANT_TIMEOUT, 10000, 10000, false},
		{GRANT_TIMEOUT, 60001, 60000, true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct grant_record record = request("10.77.1.2", "10.77.2.2");
		struct error err;
		record.flags = rows[i].flags;
		record.lifetime_ms = rows[i].asked;
		cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK);
		cr_expect_eq(record.lifetime_ms, rows[i].got, "row %zu", i);
		cr_expect_eq(record.clamped, rows[i].clamped, "row %zu", i);
	}
}

Test(state, a_renewal_never_shortens_and_never_passes_the_most)
{
	const int64_t second = 1000000, hour = 3600 * second, day = 24 * hour;
	static const struct {
		uint32_t flags;
		uint64_t max_connections;
		int64_t expires, now;
		uint64_t asked;
		int64_t until;
		bool clamped;
	} rows[] = {
		/* hours after its birth, for a grant of one hour */
		{GRANT_ALLOW_MULTIPLE, 0, 1, 0, 0, 1, false},
		{GRANT_ALLOW_MULTIPLE, 0, 10, 1, 2 * 3600000, 10, false},
		{GRANT_ALLOW_MULTIPLE, 0, 2, 1, 4 * 3600000, 5, false},
		{GRANT_ALLOW_MULTIPLE, 0, 2, 1, 48 * 3600000, 25, true},
		{GRANT_ALLOW_MULTIPLE, 0, 200, 199, 24 * 3600000, 223, false},
		/* what is counted lives a week in all */
		{0, 1, 160, 159, 24 * 3600000, 168, true},
		{0, 1, 168, 167, 3600000, 168, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		bool clamped;
		struct grant_record record = {.created_us = day,
			.expires_us = day + rows[i].expires * hour,
			.lifetime_ms = 3600000,
			.flags = rows[i].flags,
			.max_connections = rows[i].max_connections};
		int64_t until = grant_renewed_until(
			&record, &limits, rows[i].asked, day + rows[i].now * hour, &clamped);
		cr_expect_eq(until, day + rows[i].until * hour, "row %zu: %lld h", i,
			(long long)((until - day) / hour));
		cr_expect_eq(clamped, rows[i].clamped, "row %zu", i);
	}
	struct grant_record record = {.created_us = day,
		.expires_us = day + 50 * second,
		.lifetime_ms = 60000,
		.flags = GRANT_TIMEOUT,
		.max_connections = 1};
	bool clamped;
	cr_expect_eq(grant_renewed_until(&record, &limits, 3600000, day + 10 * second, &clamped),
		day + 70 * second);
	cr_expect(clamped, "TIMEOUT's most");
}

Test(state, defaults_and_limits_complete_a_request)
{
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	struct error err;
	cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK);
	cr_expect_eq(record.lifetime_ms, 3600000);
	cr_expect_eq(record.max_connections, 1);
	record.lifetime_ms = UINT64_MAX / 2;
	cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK);
	cr_expect_eq(record.lifetime_ms, 86400000, "cut to the server's maximum");
	record.flags = GRANT_TIMEOUT;
	cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK);
	cr_expect_eq(record.lifetime_ms, 60000);
	record = request("10.77.1.2", "10.77.2.2");
	record.flags = GRANT_ALLOW_MULTIPLE;
	cr_assert_eq(grant_complete(&record, &limits, &err), STATUS_OK);
	cr_expect_eq(record.max_connections, 0, "unlimited");
}

Test(state, a_retry_is_the_same_request)
{
	struct grant_record a = request("10.77.1.2", "10.77.2.2"), b = a;
	cr_expect(grant_same_request(&a, &b, true));
	b.remote.port = 1047;
	cr_expect_not(grant_same_request(&a, &b, true));
	b = a;
	b.lifetime_ms = 1; /* another default than at the first time */
	cr_expect(grant_same_request(&a, &b, false));
	cr_expect_not(grant_same_request(&a, &b, true));
}

/* A port that the server chose is an answer to "any"; one that was asked for is not. */
Test(state, a_retry_may_not_know_the_chosen_port)
{
	struct grant_record known = inbound("10.77.1.2", "10.77.2.2"), asked;
	cr_assert(addr_parse("10.77.2.101", &known.external.addr));
	asked = known;
	known.external.port = 30001;
	cr_expect_not(grant_same_request(&known, &asked, true));
	known.external_chosen = true;
	cr_expect(grant_same_request(&known, &asked, true));
	asked.external.port = 30001;
	cr_expect_not(grant_same_request(&known, &asked, true));
	known.external_chosen = false;
	cr_expect(grant_same_request(&known, &asked, true));
	asked.client_port = 4001;
	cr_expect_not(grant_same_request(&known, &asked, true));
}

Test(state, the_verdict_on_an_ended_grant_says_why)
{
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	struct error err;
	record.state = GRANT_ACTIVE;
	cr_expect_eq(grant_verdict(&record, &err), STATUS_OK);
	record.state = GRANT_DENIED;
	record.reason = END_DENIED_SITE_AND_CONTENT_RULES;
	cr_expect_eq(grant_verdict(&record, &err), STATUS_PERMISSION_DENIED);
	cr_expect_eq(err.reason, REASON_DENIED_SITE_AND_CONTENT_RULES);
	record.state = GRANT_FAILED;
	record.reason = END_GATEWAY_REFUSED;
	cr_expect_eq(grant_verdict(&record, &err), STATUS_FAILED_PRECONDITION);
	record.reason = END_DEADLINE_MISSED;
	cr_expect_eq(grant_verdict(&record, &err), STATUS_DEADLINE_EXCEEDED);
}

Test(state, the_invariant_finds_flaws)
{
	struct grant_record record = request("10.77.1.2", "10.77.2.2");
	record.state = GRANT_PENDING;
	record.max_connections = 1;
	cr_expect_null(grant_flaw(&record));
	record.state = GRANT_USED;
	cr_expect_not_null(grant_flaw(&record), "without reason and time");
	record.reason = END_USED_UP;
	record.ended_us = 1;
	cr_expect_not_null(grant_flaw(&record), "with connections left");
	record.connections = 1;
	cr_expect_null(grant_flaw(&record));
	record.reason = END_LIFETIME;
	cr_expect_not_null(grant_flaw(&record), "the reason leads elsewhere");
	record.state = 0;
	cr_expect_not_null(grant_flaw(&record));
}
