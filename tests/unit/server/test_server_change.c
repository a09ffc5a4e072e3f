/* What happens to grants that exist: renewal and cut, each also when the disk refuses
 * it, the server restarts or the agent is gone. */
#include "tests/unit/server/world_with_agents.h"

static struct result other;

/* A grant with a flow. */
static void get_with_flow(unsigned flags)
{
	get(60000, flags);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
}

/* Nobody does it: the gateway is away. */
static void cut_in_vain(uint32_t deadline_ms)
{
	start_cut(world.ftp, id, deadline_ms, &result);
	WAIT_UNTIL(&world, result.done);
	expect_error(&result, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE, NULL);
}

/* It is over and its flows are gone. */
static void expect_cut_is_late(void)
{
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 9, 0);
	agent_settle(&gw1);
	(void)cut(&world, id, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
}

/* ---- renewal ---- */

Test(server_change, a_renewal_is_told_and_counted)
{
	Postern__V1__Entry *entry;
	begin("");
	get(60000, 0);
	cr_expect_leq(gw1.doors[0].remaining_ms, 60000);
	cr_assert_eq(renew(&world, id, 3600000, &result), STATUS_OK, "%s", result.err.text);
	const Postern__V1__Grant *grant = granted(&result);
	cr_expect_eq(grant->renewals, 1);
	cr_expect_not(grant->lifetime_clamped);
	cr_expect_gt(grant->left_ms, 3590000);
	cr_expect_leq(grant->left_ms, 3600000);
	result_clear(&result);
	cr_assert_eq(gw1.door_count, 1);
	cr_expect_eq(gw1.doors[0].told, 2, "answered when the gateway knows");
	cr_expect_gt(gw1.doors[0].remaining_ms, 3590000);
	cr_assert_eq(count_entries(&world, KIND(RENEWED), id, &entry), 1);
	cr_expect_geq(entry->lifetime_ms, 3599990);
	cr_expect_leq(entry->lifetime_ms, 3600000);
	cr_expect_str_eq(entry->actor, "ftp-filter");
	entry_free(entry);
	cr_expect_eq(COUNT(&world, INSTALLED, id), 1, "it was installed all the time");
	end();
}

Test(server_change, a_renewal_never_shortens_and_is_clamped)
{
	begin("max_lifetime = 2h\n");
	get(3600000, 0);
	cr_assert_eq(renew(&world, id, 1000, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_gt(granted(&result)->left_ms, 3590000);
	cr_expect_not(granted(&result)->lifetime_clamped);
	result_clear(&result);
	cr_assert_eq(renew(&world, id, 10 * 3600000, &result), STATUS_OK, "%s", result.err.text);
	cr_expect(granted(&result)->lifetime_clamped);
	cr_expect_leq(granted(&result)->left_ms, 7200000);
	cr_expect_gt(granted(&result)->left_ms, 7190000);
	result_clear(&result);
	cr_assert_eq(renew(&world, id, 0, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_not(granted(&result)->lifetime_clamped);
	cr_expect_eq(granted(&result)->renewals, 3);
	result_clear(&result);
	(void)renew(&world, id, UINT64_MAX, &result);
	expect_error(&result, STATUS_INVALID_ARGUMENT, REASON_NONE, "lifetime_ms");
	end();
}

/* It outlives the time it would have ended at, by as much as was said. */
Test(server_change, a_renewed_grant_lives_on)
{
	begin("");
	get(2000, GRANT_ALLOW_MULTIPLE);
	int64_t renewed = clock_mono_us();
	cr_assert_eq(renew(&world, id, 4000, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	world_idle(&world, 2800);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	cr_expect_eq(gw1.door_count, 1);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	cr_expect_gt(clock_mono_us() - renewed, 4000000);
	expect_state(&world, id, GRANT_EXPIRED, END_LIFETIME);
	(void)renew(&world, id, 1000, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	end();
}

Test(server_change, what_was_used_stays_used)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.max_connections = 2;
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	cr_assert_eq(renew(&world, id, 0, &result), STATUS_OK);
	cr_expect_eq(granted(&result)->connections, 1);
	result_clear(&result);
	cr_expect_eq(gw1.doors[0].connections, 1);
	cr_expect_eq(gw1.doors[0].max_connections, 2);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 8, 0, 0);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_USED, END_USED_UP);
	(void)renew(&world, id, 0, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	end();
}

Test(server_change, a_renewal_survives_a_restart)
{
	begin("");
	get(2000, GRANT_ALLOW_MULTIPLE);
	cr_assert_eq(renew(&world, id, 3600000, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	restart_world(&world, &gw1);
	world_idle(&world, 2500);
	agent_start(&gw1, NULL, 0);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	cr_expect_gt(gw1.doors[0].remaining_ms, 3590000);
	const Postern__V1__Grant *grant = look(&world, id, &result);
	cr_expect_eq(grant->renewals, 1);
	result_clear(&result);
	end();
}

Test(server_change, a_renewal_of_a_gateway_that_is_down_is_told_when_it_is_back)
{
	begin("");
	get(60000, GRANT_ALLOW_MULTIPLE);
	lose_agent();
	cr_assert_eq(renew(&world, id, 3600000, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	agent_start(&gw1, NULL, 0);
	cr_expect_gt(gw1.doors[0].remaining_ms, 3590000);
	end();
}

/* The door is told again, and cancelled before the agent has acknowledged that. */
Test(server_change, a_door_that_is_told_again_can_be_removed)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	begin("");
	get(60000, 0);
	gw1.holds_acks = true;
	request.id = id;
	start_grants_call(world.ftp, "Renew", &request.base, 0, &result);
	WAIT_UNTIL(&world, gw1.doors[0].told == 2);
	Postern__V1__GrantCancelRequest end_it = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	end_it.id = id;
	start_grants_call(world.ftp, "Cancel", &end_it.base, 0, &other);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done && other.done);
	expect_error(&result, STATUS_ABORTED, REASON_ALREADY_ENDED, NULL);
	cr_expect_eq(other.err.status, STATUS_OK);
	result_clear(&other);
	end();
}

Test(server_change, a_disk_that_refuses_a_renewal, .timeout = 60)
{
	begin("");
	get(3000, GRANT_ALLOW_MULTIPLE);
	break_disk(true);
	(void)renew(&world, id, 3600000, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, NULL);
	break_disk(false);
	cr_expect_eq(gw1.doors[0].told, 1);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_EXPIRED, END_LIFETIME);
	cr_expect_eq(COUNT(&world, RENEWED, id), 0);
	end();
}

Test(server_change, only_ones_own_grants_are_renewed)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	begin("");
	get(60000, 0);
	request.id = id;
	(void)grants_call(&world, world.sip, "Renew", &request.base, &result);
	expect_error(&result, STATUS_NOT_FOUND, REASON_NONE, NULL);
	(void)grants_call(&world, world.auditor, "Renew", &request.base, &result);
	expect_error(&result, STATUS_PERMISSION_DENIED, REASON_NONE, NULL);
	request.id = TEXT("x");
	(void)grants_call(&world, world.ftp, "Renew", &request.base, &result);
	expect_error(&result, STATUS_INVALID_ARGUMENT, REASON_NONE, "id");
	request.id = TEXT("0190f3a2-0000-7000-8000-000000000001");
	(void)grants_call(&world, world.ftp, "Renew", &request.base, &result);
	expect_error(&result, STATUS_NOT_FOUND, REASON_NONE, NULL);
	end();
}

/* ---- cut ---- */

Test(server_change, a_cut_closes_the_door_and_then_the_flows)
{
	begin("");
	get_with_flow(GRANT_ALLOW_MULTIPLE);
	gw1.holds_acks = true;
	start_cut(world.ftp, id, 0, &result);
	WAIT_UNTIL(&world, gw1.cut_count == 1);
	cr_expect_eq(gw1.door_count, 0, "the door is gone first");
	cr_expect_str_eq(gw1.cut[0], id);
	cr_expect_eq(COUNT(&world, CUT, id), 1);
	cr_expect_eq(result.done, 0, "answered when the agent has done it");
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq((int)granted(&result)->state, GRANT_CANCELLED);
	result_clear(&result);
	expect_cut_is_late();
	cr_expect_eq(COUNT(&world, CUT, id), 1);
	end();
}

Test(server_change, an_ended_grant_is_cut_while_it_has_flows)
{
	begin("");
	get_with_flow(0);
	expect_state(&world, id, GRANT_USED, END_USED_UP);
	(void)cancel(&world, world.ftp, id, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	restart_world(&world, &gw1);
	struct fake_flow flows[] = {{id, 7}};
	agent_start(&gw1, flows, 1);
	cr_assert_eq(cut(&world, id, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_eq((int)granted(&result)->state, GRANT_USED, "that stays so");
	result_clear(&result);
	cr_expect_eq(gw1.cut_count, 1);
	expect_cut_is_late();
	end();
}

/* Decided while the gateway is away: the caller hears that it is not done yet, and it is done. */
Test(server_change, a_cut_of_a_gateway_that_is_down_is_done_when_it_is_back)
{
	begin("");
	get_with_flow(GRANT_ALLOW_MULTIPLE);
	lose_agent();
	cut_in_vain(300);
	expect_state(&world, id, GRANT_CANCELLED, END_CANCELLED_BY_FILTER);
	restart_world(&world, &gw1);
	struct fake_flow flows[] = {{id, 7}};
	agent_start(&gw1, flows, 1);
	WAIT_UNTIL(&world, gw1.cut_count == 1);
	cr_expect_str_eq(gw1.cut[0], id);
	agent_settle(&gw1);
	/* Acknowledged: not told a second time. */
	agent_disconnect(&gw1);
	restart_world(&world, &gw1);
	agent_start(&gw1, flows, 1);
	world_idle(&world, 100);
	cr_expect_eq(gw1.cut_count, 1);
	end();
}

/* Neither its session's end nor a plain cancellation waits for a cut that may take long. */
Test(server_change, nobody_else_waits_for_a_cut)
{
	char session[ID_TEXT_SIZE];
	begin("");
	get_session(&world, session);
	Postern__V1__GrantRequest request = grant_request();
	request.session = session;
	get_grant(&world, &request, id);
	agent_settle(&gw1);
	lose_agent();
	Postern__V1__GrantCancelRequest plain = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	plain.id = id;
	start_cut(world.ftp, id, 0, &result);
	start_grants_call(world.ftp, "Cancel", &plain.base, 0, &other);
	WAIT_UNTIL(&world, other.done);
	cr_expect_eq(other.err.status, STATUS_OK, "%s", other.err.text);
	result_clear(&other);
	cr_expect_eq(close_session(&world, world.ftp, session, &other), STATUS_OK);
	result_clear(&other);
	cr_expect_eq(result.done, 0, "it is not cut yet");
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(gw1.cut_count, 1);
	end();
}

/* Its cut was never acknowledged, and it is asked for once more. */
Test(server_change, a_retry_of_a_grant_with_an_unfinished_cut)
{
	struct id request_id = id_new();
	char text[ID_TEXT_SIZE];
	id_format(&request_id, text);
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.request_id = text;
	get_grant(&world, &request, id);
	lose_agent();
	cut_in_vain(200);
	restart();
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_str_eq(granted(&result)->id, id);
	cr_expect_eq((int)granted(&result)->state, GRANT_CANCELLED);
	result_clear(&result);
	end();
}

/* Its flow is reported only after the restart that forgot the grant. */
Test(server_change, a_cut_reaches_a_flow_that_nobody_knew)
{
	begin("");
	get(60000, GRANT_ALLOW_MULTIPLE);
	lose_agent();
	cut_in_vain(200);
	restart();
	world_idle(&world, 100);
	cr_expect_eq(gw1.cut_count, 0);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	WAIT_UNTIL(&world, gw1.cut_count == 1);
	end();
}

Test(server_change, cancelled_first_and_cut_while_that_is_under_way)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	begin("");
	get_with_flow(GRANT_ALLOW_MULTIPLE);
	request.id = id;
	start_grants_call(world.ftp, "Cancel", &request.base, 0, &result);
	start_cut(world.ftp, id, 0, &other);
	WAIT_UNTIL(&world, result.done && other.done);
	cr_expect_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	cr_expect_eq(other.err.status, STATUS_OK, "%s", other.err.text);
	result_clear(&result);
	result_clear(&other);
	cr_expect_eq(gw1.cut_count, 1);
	cr_expect_eq(COUNT(&world, ENDED, id), 1);
	cr_expect_eq(COUNT(&world, CUT, id), 1);
	end();
}

Test(server_change, a_disk_that_refuses_a_cut, .timeout = 60)
{
	begin("");
	get_with_flow(0);
	break_disk(true);
	(void)cut(&world, id, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, NULL);
	break_disk(false);
	cr_expect_eq(gw1.cut_count, 0);
	cr_assert_eq(cut(&world, id, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(gw1.cut_count, 1);
	cr_expect_eq(COUNT(&world, CUT, id), 1);
	end();
}
