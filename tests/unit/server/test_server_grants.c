/* Requests over the wire: the whole server with a scripted agent. */
#include "tests/unit/server/world_with_agents.h"

/* Asks for `id`, whose door the agent takes without acknowledging it. */
static void ask_unacknowledged(
	struct rpc_client *client, const Postern__V1__GrantRequest *request, uint32_t deadline_ms)
{
	gw1.holds_acks = true;
	start_request(client, request, deadline_ms, &result);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	snprintf(id, sizeof id, "%s", gw1.doors[0].grant);
}

/* The connection of the caller breaks then. */
static void ask_and_vanish(const Postern__V1__GrantRequest *request)
{
	struct open_files before = note_open_files();
	struct rpc_client *caller = world_connect(&world, TOKEN_FTP);
	ask_unacknowledged(caller, request, 0);
	break_new_connections(&before);
	WAIT_UNTIL(&world, result.done);
	rpc_client_free(caller);
}

/* I1: nothing reaches the gateway or the caller before the decision is on disk, and the caller
 * hears only when the kernel has it. */
Test(server_grants, is_answered_when_the_door_is_installed)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	ask_unacknowledged(world.ftp, &request, 0);
	cr_expect_eq(COUNT(&world, GRANTED, gw1.doors[0].grant), 1);
	cr_expect_eq(COUNT(&world, INSTALLED, gw1.doors[0].grant), 0);
	cr_expect_eq(result.done, 0);
	expect_state(&world, gw1.doors[0].grant, GRANT_PENDING, 0);
	cr_expect_str_eq(gw1.doors[0].client, "10.77.1.2");
	cr_expect_eq(gw1.doors[0].port, 1046);
	cr_expect_eq(gw1.doors[0].max_connections, 1);
	cr_expect_leq(gw1.doors[0].remaining_ms, 3600000);
	cr_expect_gt(gw1.doors[0].remaining_ms, 3590000);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)result.reply;
	cr_expect_eq((int)granted(&result)->state, GRANT_ACTIVE);
	cr_expect_str_eq(granted(&result)->id, gw1.doors[0].grant);
	cr_expect_str_eq(granted(&result)->rule, "allow ftp");
	cr_expect_gt(reply->timing->commit_us, 0);
	cr_expect_gt(reply->timing->push_us, 0);
	cr_expect_eq(reply->timing->kernel_us, 15);
	result_clear(&result);
	agent_settle(&gw1);
	cr_expect_eq(COUNT(&world, INSTALLED, gw1.doors[0].grant), 1);
	end();
}

Test(server_grants, decided_is_answered_without_the_gateway)
{
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = grant_request();
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK);
	cr_expect_eq((int)granted(&result)->state, GRANT_PENDING);
	result_clear(&result);
	end();
}

Test(server_grants, ipv6_is_equal)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.client = TEXT("FD77:1:0::2");
	request.remote = TEXT("fd77:2::2");
	get_grant(&world, &request, id);
	cr_expect_str_eq(gw1.doors[0].client, "fd77:1::2");
	cr_expect_str_eq(gw1.doors[0].remote, "fd77:2::2");
	end();
}

static void expect_refused(struct rpc_client *client, const Postern__V1__GrantRequest *request,
	enum status status, enum reason reason, const char *field)
{
	cr_expect_eq(ask(&world, client, request, &result), status, "%s: %s, not %s: %s", field,
		status_name(result.err.status), status_name(status), result.err.text);
	cr_expect_eq(result.err.reason, reason, "%s: %s", field, result.err.text);
	cr_expect_str_eq(result.err.field, field);
	cr_expect_gt(strlen(result.err.text), 10);
	result_clear(&result);
}

#define WRONG(member, value, wanted_field)                                                         \
	do {                                                                                       \
		Postern__V1__GrantRequest bad = grant_request();                                   \
		bad.member = value;                                                                \
		expect_refused(                                                                    \
			world.ftp, &bad, STATUS_INVALID_ARGUMENT, REASON_NONE, wanted_field);      \
	} while (0)

Test(server_grants, errors_name_the_field)
{
	static uint8_t context[4097];
	begin("");
	WRONG(client, TEXT("10.77.1.299"), "client");
	WRONG(client, TEXT(""), "client");
	WRONG(client, TEXT("127.0.0.1"), "client");
	WRONG(client, TEXT("fd77:1::2"), "remote"); /* families differ */
	WRONG(remote, TEXT("somewhere"), "remote");
	WRONG(remote, TEXT("224.0.0.1"), "remote");
	WRONG(remote, TEXT("255.255.255.255"), "remote");
	WRONG(remote, TEXT("fe80::1"), "remote");
	WRONG(remote_port, 0, "remote_port");
	WRONG(remote_port, 65536, "remote_port");
	WRONG(transport, 1, "transport");
	WRONG(transport, 256 + 6, "transport");
	WRONG(protocol, TEXT("nfs"), "protocol");
	WRONG(protocol, TEXT(""), "protocol");
	WRONG(flags, 32, "flags");
	WRONG(flags, GRANT_TIMEOUT | GRANT_ALLOW_MULTIPLE, "flags");
	WRONG(flags, GRANT_BIDIRECTIONAL, "flags"); /* with TCP */
	WRONG(session, TEXT("abc"), "session");
	WRONG(session, TEXT("0190f3a2-0000-7000-8000-000000000001"), "session");
	WRONG(request_id, TEXT("abc"), "request_id");
	WRONG(gateway, TEXT(""), "gateway");
	WRONG(lifetime_ms, UINT64_MAX, "lifetime_ms");
	WRONG(max_connections, UINT64_MAX, "max_connections");
	Postern__V1__GrantRequest request = grant_request();
	request.context.data = context;
	request.context.len = sizeof context;
	expect_refused(world.ftp, &request, STATUS_INVALID_ARGUMENT, REASON_NONE, "context");
	request = grant_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	request.max_connections = 1;
	expect_refused(
		world.ftp, &request, STATUS_INVALID_ARGUMENT, REASON_NONE, "max_connections");
	request = grant_request();
	request.flags = GRANT_NO_KERNEL_MODE;
	expect_refused(world.ftp, &request, STATUS_UNIMPLEMENTED, REASON_NONE, "");
	request = grant_request();
	request.external_port = 2000;
	expect_refused(world.ftp, &request, STATUS_INVALID_ARGUMENT, REASON_NONE, "external");
	request = grant_request();
	request.gateway = TEXT("gw9");
	expect_refused(world.ftp, &request, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY, "");
	request = grant_request();
	expect_refused(world.sip, &request, STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE, "");
	request.gateway = TEXT("gw2");
	expect_refused(world.ftp, &request, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, "");
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 0);
	cr_expect_eq(COUNT(&world, DENIED, NULL), 0);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

Test(server_grants, a_denial_is_journalled_and_says_which_rules)
{
	Postern__V1__Entry *entry;
	char request_id[] = "0190f3a2-1111-7000-8000-000000000001";
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.protocol = TEXT("dns");
	request.request_id = request_id;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	cr_expect_eq(result.err.reason, REASON_DENIED_PROTOCOL_RULES);
	cr_expect_str_eq(result.err.rule, "");
	snprintf(id, sizeof id, "%.36s", result.err.grant);
	result_clear(&result);
	expect_state(&world, id, GRANT_DENIED, END_DENIED_PROTOCOL_RULES);
	cr_expect_eq(count_entries(&world, KIND(DENIED), id, &entry), 1);
	cr_expect_eq((int)entry->reason, END_DENIED_PROTOCOL_RULES);
	cr_expect_str_eq(entry->request_id, request_id);
	entry_free(entry);
	/* I6: the same request once more is the same denial. */
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	cr_expect_eq(result.err.reason, REASON_DENIED_PROTOCOL_RULES);
	cr_expect_str_eq(result.err.grant, id);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, DENIED, NULL), 1);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

Test(server_grants, a_quota_counts_what_lives)
{
	char first[ID_TEXT_SIZE], second[ID_TEXT_SIZE];
	begin("max_live_grants_per_filter = 2");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, first);
	request.remote_port = 1047;
	get_grant(&world, &request, second);
	request.remote_port = 1048;
	expect_refused(world.ftp, &request, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, "");
	cr_expect_eq(cancel(&world, world.ftp, first, &result), STATUS_OK);
	result_clear(&result);
	get_grant(&world, &request, first);
	end();
}

/* I6: under way, live, ended, and after a restart. */
Test(server_grants, one_request_id_is_one_grant)
{
	static struct result two;
	char request_id[] = "0190f3a2-2222-7000-8000-000000000001";
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = grant_request();
	request.request_id = request_id;
	request.context = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)TEXT("abc")};
	start_request(world.ftp, &request, 0, &result);
	start_request(world.ftp, &request, 0, &two); /* the first one is not on disk yet */
	WAIT_UNTIL(&world, gw1.door_count == 1);
	cr_expect_eq(result.done + two.done, 0);
	gw1.holds_acks = false;
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done && two.done);
	snprintf(id, sizeof id, "%s", granted(&result)->id);
	cr_expect_str_eq(granted(&two)->id, id);
	result_clear(&result);
	result_clear(&two);
	get_grant(&world, &request, id);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 1);
	request.remote_port = 1047;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_ALREADY_EXISTS);
	cr_expect_str_eq(result.err.grant, id);
	result_clear(&result);
	request.remote_port = 1046;
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	for (int restarts = 0; restarts < 2; restarts++) {
		cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK);
		cr_expect_str_eq(granted(&result)->id, id);
		cr_expect_eq((int)granted(&result)->state, GRANT_CANCELLED);
		result_clear(&result);
		request.remote_port = 1047;
		cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_ALREADY_EXISTS);
		result_clear(&result);
		request.remote_port = 1046;
		cr_expect_eq(gw1.door_count, 0);
		restart();
	}
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 1);
	/* Another filter's ids are its own. */
	request.gateway = TEXT("gw2");
	agent_start(&gw2, NULL, 0);
	cr_expect_eq(ask(&world, world.sip, &request, &result), STATUS_OK);
	cr_expect_str_neq(granted(&result)->id, id);
	result_clear(&result);
	end();
}

/* A late door is no door. */
Test(server_grants, a_missed_deadline_leaves_nothing_open)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	ask_unacknowledged(world.ftp, &request, 300);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, STATUS_DEADLINE_EXCEEDED);
	cr_expect_eq(result.err.reason, REASON_DEADLINE);
	cr_expect_str_eq(result.err.grant, id);
	result_clear(&result);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_apply(&gw1, gw1.item);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_FAILED, END_DEADLINE_MISSED);
	cr_expect_eq(COUNT(&world, INSTALLED, id), 0);
	cr_expect_eq(COUNT(&world, ENDED, id), 1);
	end();
}

/* The agent went away with the door; the deadline passes; the snapshot lacks it. */
Test(server_grants, a_missed_deadline_holds_for_an_agent_that_returns)
{
	begin("request_deadline = 300ms");
	Postern__V1__GrantRequest request = grant_request();
	ask_unacknowledged(world.ftp, &request, 0); /* the server's own deadline */
	agent_disconnect(&gw1);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, STATUS_DEADLINE_EXCEEDED, "%s", result.err.text);
	result_clear(&result);
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

/* Behind another one's door: not the gateway's fault, and it is said so. */
Test(server_grants, a_deadline_missed_in_line)
{
	begin("request_deadline = 300ms");
	Postern__V1__GrantRequest request = grant_request();
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK);
	result_clear(&result);
	start_request(world.ftp, &request, 0, &result);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.reason, REASON_DEADLINE);
	cr_expect_neq(strstr(result.err.text, "waited behind it"), NULL, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(gw1.door_count, 1);
	end();
}

/* Nobody waits, nobody retries: the deadline still holds. */
Test(server_grants, a_missed_deadline_holds_for_a_caller_that_is_gone)
{
	begin("request_deadline = 300ms");
	Postern__V1__GrantRequest request = grant_request();
	ask_and_vanish(&request);
	result_clear(&result);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	expect_state(&world, id, GRANT_FAILED, END_DEADLINE_MISSED);
	end();
}

/* A caller whose connection broke comes again with its request id and finds its door. */
Test(server_grants, a_retry_after_a_lost_connection_joins)
{
	char request_id[] = "0190f3a2-3333-7000-8000-000000000001";
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.request_id = request_id;
	ask_and_vanish(&request);
	cr_expect_eq(result.err.status, STATUS_UNAVAILABLE);
	start_request(world.ftp, &request, 0, &result);
	world_idle(&world, 50);
	cr_expect_eq(result.done, 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_str_eq(granted(&result)->id, id);
	cr_expect_eq((int)granted(&result)->state, GRANT_ACTIVE);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 1);
	end();
}

Test(server_grants, a_refusal_of_the_kernel_is_told_with_its_cause)
{
	begin("");
	gw1.refuses = "set is full";
	Postern__V1__GrantRequest request = grant_request();
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_FAILED_PRECONDITION);
	cr_expect_eq(result.err.reason, REASON_GATEWAY_REFUSED);
	cr_expect_not_null(strstr(result.err.text, "set is full"), "%s", result.err.text);
	expect_state(&world, result.err.grant, GRANT_FAILED, END_GATEWAY_REFUSED);
	result_clear(&result);
	end();
}

/* Live grants of one key queue; the next is armed when the one before has ended, in one item. */
Test(server_grants, equal_keys_queue)
{
	static struct result second, third;
	char first[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, first);
	start_request(world.ftp, &request, 0, &second);
	start_request(world.ftp, &request, 500, &third);
	WAIT_UNTIL(&world, COUNT(&world, GRANTED, NULL) == 3);
	cr_expect_eq(second.done, 0);
	cr_expect_eq(gw1.door_count, 1);
	unsigned items = gw1.items;
	cr_expect_eq(cancel(&world, world.ftp, first, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	WAIT_UNTIL(&world, second.done);
	cr_expect_eq(gw1.items, items + 1);
	cr_expect_eq(gw1.door_count, 1);
	cr_expect_str_eq(gw1.doors[0].grant, granted(&second)->id);
	WAIT_UNTIL(&world, third.done); /* from the middle of the line */
	cr_expect_eq(third.err.status, STATUS_DEADLINE_EXCEEDED);
	cr_expect_eq(gw1.door_count, 1);
	result_clear(&second);
	result_clear(&third);
	end();
}

/* The answer to a cancellation means that the door is shut. */
Test(server_grants, a_cancellation_is_answered_when_the_door_is_gone)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	gw1.holds_acks = true;
	Postern__V1__GrantCancelRequest message = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	message.id = id;
	start_call(
		world.admin, &postern__v1__grants__descriptor, "Cancel", &message.base, 0, &result);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	cr_expect_eq(COUNT(&world, ENDED, id), 1);
	cr_expect_eq(result.done, 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq((int)granted(&result)->state, GRANT_CANCELLED);
	result_clear(&result);
	expect_state(&world, id, GRANT_CANCELLED, END_REVOKED_BY_OPERATOR);
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_FAILED_PRECONDITION);
	cr_expect_eq(result.err.reason, REASON_ALREADY_ENDED);
	result_clear(&result);
	cr_expect_eq(cancel(&world, world.sip, id, &result), STATUS_NOT_FOUND); /* not its own */
	result_clear(&result);
	end();
}

Test(server_grants, a_cancellation_of_a_gateway_that_is_down_is_answered_at_once)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	lose_agent();
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

/* A caller that never heard the answer knows only its request's id. */
Test(server_grants, a_request_is_cancelled_by_its_id)
{
	char request_id[] = "0190f3a2-4444-7000-8000-000000000001";
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.request_id = request_id;
	get_grant(&world, &request, id);
	Postern__V1__GrantCancelRequest message = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	message.request_id = request_id;
	cr_expect_eq(call(&world, world.sip, &postern__v1__grants__descriptor, "Cancel",
			     &message.base, &result),
		STATUS_NOT_FOUND);
	result_clear(&result);
	cr_expect_eq(call(&world, world.ftp, &postern__v1__grants__descriptor, "Cancel",
			     &message.base, &result),
		STATUS_OK, "%s", result.err.text);
	cr_expect_str_eq(granted(&result)->id, id);
	result_clear(&result);
	end();
}

/* A caller that cancels its call wants no door. */
Test(server_grants, a_cancelled_request_is_withdrawn)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	ask_unacknowledged(world.ftp, &request, 0);
	rpc_client_cancel(world.ftp, result.id);
	WAIT_UNTIL(&world, result.done && gw1.door_count == 0);
	result_clear(&result);
	expect_state(&world, id, GRANT_CANCELLED, END_CANCELLED_BY_FILTER);
	end();
}

/* I3's half of the server: the end is journalled after the lifetime, never before. */
Test(server_grants, a_lifetime_ends)
{
	char unused[ID_TEXT_SIZE], timeout[ID_TEXT_SIZE];
	Postern__V1__Entry *entry;
	begin("unused_timeout = 1s");
	Postern__V1__GrantRequest request = grant_request();
	request.lifetime_ms = 700;
	int64_t began = clock_real_us();
	get_grant(&world, &request, unused);
	request.remote_port = 1047;
	request.flags = GRANT_TIMEOUT;
	get_grant(&world, &request, timeout);
	cr_expect_leq(agent_door(&gw1, timeout)->remaining_ms, 700);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, NULL) == 2);
	cr_expect_eq(count_entries(&world, KIND(ENDED), unused, &entry), 1);
	cr_expect_geq(entry->time_us, began + 700000);
	cr_expect_leq(entry->time_us, began + 700000 + 1000000);
	entry_free(entry);
	expect_state(&world, unused, GRANT_EXPIRED, END_LIFETIME);
	expect_state(&world, timeout, GRANT_EXPIRED, END_UNUSED_TIMEOUT);
	end();
}

/* What was over while the server was down ends at its start. */
Test(server_grants, a_lifetime_ends_while_the_server_is_down)
{
	char other[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.lifetime_ms = 300;
	get_grant(&world, &request, id);
	request.remote_port = 1047;
	request.lifetime_ms = 0;
	get_grant(&world, &request, other);
	agent_disconnect(&gw1);
	world_stop(&world);
	world_idle(&world, 700);
	world_start(&world);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_EXPIRED, END_LIFETIME);
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.door_count, 1);
	cr_expect_str_eq(gw1.doors[0].grant, other);
	end();
}

Test(server_grants, rules_that_change_judge_again)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	Postern__V1__AllowProtocolRequest deny = POSTERN__V1__ALLOW_PROTOCOL_REQUEST__INIT;
	deny.protocol = TEXT("ftp");
	deny.deny = true;
	for (int i = 0; i < 2; i++) { /* once more changes nothing */
		cr_expect_eq(call(&world, world.admin, &postern__v1__policy__descriptor,
				     "AllowProtocol", &deny.base, &result),
			STATUS_OK);
		result_clear(&result);
	}
	WAIT_UNTIL(&world, gw1.door_count == 0);
	expect_state(&world, id, GRANT_CANCELLED, END_POLICY_CHANGED);
	cr_expect_eq(COUNT(&world, POLICY_APPLIED, NULL), 2); /* and revision 1 */
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_PERMISSION_DENIED);
	cr_expect_str_eq(result.err.rule, "deny ftp");
	result_clear(&result);
	end();
}

static size_t list_grants(struct rpc_client *client, bool all, const char *gateway, uint32_t limit)
{
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	request.all = all;
	request.gateway = TEXT(gateway);
	request.limit = limit;
	cr_assert_eq(call(&world, client, &postern__v1__grants__descriptor, "List", &request.base,
			     &result),
		STATUS_OK);
	for (size_t i = 1; i < result.item_count; i++)
		cr_expect_gt(strcmp(((Postern__V1__GrantReply *)result.items[i - 1])->grant->id,
				     ((Postern__V1__GrantReply *)result.items[i])->grant->id),
			0, "newest first");
	size_t count = result.item_count;
	result_clear(&result);
	return count;
}

Test(server_grants, lists_are_newest_first_and_ones_own)
{
	begin("");
	agent_start(&gw2, NULL, 0);
	Postern__V1__GrantRequest request = grant_request();
	for (uint32_t i = 0; i < 300; i++) {
		request.gateway = TEXT(i % 2 ? "gw1" : "gw2");
		request.remote_port = 2000 + i;
		get_grant(&world, &request, id);
	}
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	cr_expect_eq(list_grants(world.ftp, false, "", 0), 299);
	cr_expect_eq(list_grants(world.ftp, true, "", 0), 300);
	cr_expect_eq(list_grants(world.auditor, false, "gw1", 0), 149);
	cr_expect_eq(list_grants(world.auditor, false, "gw2", 100), 100);
	cr_expect_eq(list_grants(world.sip, false, "", 0), 0);
	cr_expect_eq(list_grants(world.sip, true, "", 0), 0);
	/* I7: a restart brings all of them back in a snapshot of pieces. */
	restart();
	cr_expect_eq(gw1.door_count, 149);
	end();
}
