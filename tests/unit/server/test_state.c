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
}

Test(state, every_end_has_a_state_and_a_name)
{
	for (int reason = END_USED_UP; reason <= END_DENIED_SITE_AND_CONTENT_RULES; reason++) {
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
	record.max_connections = 40000;
	cr_expect_str_eq(field_of(record), "max_connections");
	record.max_connections = 0;
	record.context_size = 4097;
	cr_expect_str_eq(field_of(record), "context");
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
