/* Bundles: all or none, one id, one cancel; also when denied, refused, retried, restarted. */
#include "tests/unit/server/world_with_agents.h"

static struct result other;
static struct bundle bundle;
static char bundle_id[ID_TEXT_SIZE];

static void begin_with_id(const char *more)
{
	struct id id = id_new();
	id_format(&id, bundle_id);
	begin(more);
}

/* Asks for `count` under the test's id. */
static enum status ask_for(size_t count)
{
	bundle_init(&bundle, count);
	bundle.request.bundle = bundle_id;
	return ask_bundle(&world, &bundle, &result);
}

static size_t live(void)
{
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	static struct result listed;
	(void)grants_call(&world, world.ftp, "List", &request.base, &listed);
	size_t count = listed.item_count;
	result_clear(&listed);
	return count;
}

Test(server_bundle, is_answered_in_order_and_travels_in_one_item)
{
	Postern__V1__Entry *entry;
	begin_with_id("");
	unsigned items = gw1.items;
	cr_assert_eq(ask_for(64), STATUS_OK, "%s", result.err.text);
	const Postern__V1__BundleReply *reply = bundle_of(&result);
	cr_expect_str_eq(reply->bundle, bundle_id);
	cr_assert_eq(reply->n_grants, 64);
	for (size_t i = 0; i < 64; i++) {
		const Postern__V1__Grant *grant = reply->grants[i]->grant;
		cr_expect_eq(grant->remote_port, 5000 + i);
		cr_expect_str_eq(grant->bundle, bundle_id);
		cr_expect_eq((int)grant->state, GRANT_ACTIVE);
	}
	cr_expect_eq(gw1.items, items + 1);
	cr_expect_eq(gw1.largest_item, 64);
	cr_expect_eq(count_entries(&world, KIND(GRANTED), NULL, &entry), 64);
	cr_expect_str_eq(entry->bundle, bundle_id);
	entry_free(entry);
	result_clear(&result);
	end();
}

Test(server_bundle, the_server_makes_an_id)
{
	begin_with_id("");
	bundle_init(&bundle, 2);
	bundle.request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	cr_assert_eq(ask_bundle(&world, &bundle, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_eq(strlen(bundle_of(&result)->bundle), 36);
	result_clear(&result);
	cr_assert_eq(ask_bundle(&world, &bundle, &result), STATUS_OK);
	cr_expect_eq((int)bundle_of(&result)->grants[0]->grant->state, GRANT_PENDING,
		"another bundle, in line");
	result_clear(&result);
	end();
}

/* Nothing is decided about a bundle of which one is wrong; the error says which. */
Test(server_bundle, errors_name_the_member)
{
	begin_with_id("");
	bundle_init(&bundle, 3);
#define WRONG(set, field)                                                                          \
	do {                                                                                       \
		bundle_init(&bundle, 3);                                                           \
		set;                                                                               \
		(void)ask_bundle(&world, &bundle, &result);                                        \
		expect_error(&result, STATUS_INVALID_ARGUMENT, REASON_NONE, field);                \
	} while (0)
	WRONG(bundle.grants[1].remote = TEXT("x"), "grants[1].remote");
	WRONG(bundle.grants[2].remote_port = 0, "grants[2].remote_port");
	WRONG(bundle.grants[2].request_id = bundle_id, "grants[2].request_id");
	WRONG(bundle.grants[0].reserve = true, "grants[0].reserve");
	WRONG(bundle.grants[2].remote_port = bundle.grants[0].remote_port, "grants[2].remote_port");
	WRONG(bundle.request.n_grants = 0, "grants");
	WRONG(bundle.request.bundle = TEXT("x"), "bundle");
	WRONG(bundle.grants[2].gateway = TEXT("gw2"), "grants[2].gateway");
	bundle_init(&bundle, 65);
	(void)ask_bundle(&world, &bundle, &result);
	expect_error(&result, STATUS_INVALID_ARGUMENT, REASON_NONE, "grants");
	bundle_init(&bundle, 2);
	bundle.grants[1].remote = TEXT("x");
	(void)ask_bundle(&world, &bundle, &result);
	cr_expect_eq(strncmp(result.err.text, "grants[1].remote: ", 18), 0, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 0);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

Test(server_bundle, one_denied_denies_all)
{
	Postern__V1__Entry *entry;
	begin_with_id("");
	for (int attempt = 0; attempt < 2; attempt++) { /* the same answer, from the disk */
		bundle_init(&bundle, 3);
		bundle.request.bundle = bundle_id;
		bundle.grants[1].protocol = TEXT("dns");
		bundle.grants[1].transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
		(void)ask_bundle(&world, &bundle, &result);
		cr_expect_eq(strncmp(result.err.text, "grants[1]: ", 11), 0, "%s", result.err.text);
		cr_expect_neq(result.err.grant[0], '\0');
		expect_error(&result, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES, NULL);
		cr_assert_eq(count_entries(&world, KIND(DENIED), NULL, &entry), 1);
		cr_expect_eq(entry->remote_port, 5001);
		cr_expect_str_eq(entry->bundle, bundle_id);
		entry_free(entry);
	}
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 0);
	cr_expect_eq(live(), 0);
	/* The rules allow it now, but this id has had its answer. */
	Postern__V1__AllowProtocolRequest allow = POSTERN__V1__ALLOW_PROTOCOL_REQUEST__INIT;
	allow.protocol = TEXT("dns");
	cr_assert_eq(call(&world, world.admin, &postern__v1__policy__descriptor, "AllowProtocol",
			     &allow.base, &other),
		STATUS_OK);
	result_clear(&other);
	(void)ask_bundle(&world, &bundle, &result);
	expect_error(&result, STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES, NULL);
	cr_expect_eq(live(), 0);
	bundle.request.bundle = TEXT("");
	cr_expect_eq(ask_bundle(&world, &bundle, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	end();
}

Test(server_bundle, members_count_against_the_quota)
{
	begin_with_id("max_live_grants_per_filter = 5\n");
	cr_expect_eq(ask_for(3), STATUS_OK);
	result_clear(&result);
	bundle_init(&bundle, 3);
	(void)ask_bundle(&world, &bundle, &result);
	expect_error(&result, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, NULL);
	cr_expect_eq(live(), 3);
	bundle_init(&bundle, 2);
	bundle.grants[0].remote_port = 6000;
	bundle.grants[1].remote_port = 6001;
	cr_expect_eq(ask_bundle(&world, &bundle, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	end();
}

/* Two of one bundle cannot have the same port; then nothing of it happened. */
Test(server_bundle, external_ports_are_all_or_none)
{
	begin_with_id("");
	bundle_init(&bundle, 3);
	for (uint32_t i = 0; i < 3; i++) {
		bundle.grants[i] = accept_request();
		bundle.grants[i].client_port = 4000 + i;
		bundle.grants[i].external_port = 2000 + i % 2;
	}
	(void)ask_bundle(&world, &bundle, &result);
	cr_expect_eq(strncmp(result.err.text, "grants[2].external_port", 23) &&
			strncmp(result.err.text, "grants[2]: external_port", 24),
		0, "%s", result.err.text);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	cr_expect_eq(live(), 0);
	bundle.grants[2].external_port = 0;
	cr_assert_eq(ask_bundle(&world, &bundle, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_geq(bundle_of(&result)->grants[2]->grant->external_port, 30000);
	result_clear(&result);
	end();
}

/* ---- the same id ---- */

static void expect_same(const char first[][ID_TEXT_SIZE], size_t count)
{
	const Postern__V1__BundleReply *reply = bundle_of(&result);
	cr_assert_eq(reply->n_grants, count);
	for (size_t i = 0; i < count; i++)
		cr_expect_str_eq(reply->grants[i]->grant->id, first[i], "%zu", i);
	result_clear(&result);
}

/* I6 */
Test(server_bundle, one_id_is_one_bundle)
{
	char first[3][ID_TEXT_SIZE];
	begin_with_id("");
	cr_assert_eq(ask_for(3), STATUS_OK);
	for (size_t i = 0; i < 3; i++)
		memcpy(first[i], bundle_of(&result)->grants[i]->grant->id, ID_TEXT_SIZE);
	result_clear(&result);
	cr_assert_eq(ask_for(3), STATUS_OK);
	expect_same(first, 3);
	/* One of them ends and is forgotten: from the disk, the others from memory. */
	cr_expect_eq(cancel(&world, world.ftp, first[1], &other), STATUS_OK);
	result_clear(&other);
	agent_settle(&gw1);
	cr_assert_eq(ask_for(3), STATUS_OK, "%s", result.err.text);
	cr_expect_eq((int)bundle_of(&result)->grants[1]->grant->state, GRANT_CANCELLED);
	expect_same(first, 3);
	restart();
	cr_assert_eq(ask_for(3), STATUS_OK, "%s", result.err.text);
	expect_same(first, 3);
	/* All of them are of the past. */
	cr_expect_eq(cancel_bundle(&world, world.ftp, bundle_id, false, &other), STATUS_OK);
	result_clear(&other);
	restart();
	cr_assert_eq(ask_for(3), STATUS_OK, "%s", result.err.text);
	cr_expect_eq((int)bundle_of(&result)->grants[0]->grant->state, GRANT_CANCELLED);
	expect_same(first, 3);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	cr_expect_eq(gw1.door_count, 0);
	end();
}

Test(server_bundle, one_id_with_another_content)
{
	begin_with_id("");
	cr_assert_eq(ask_for(3), STATUS_OK);
	result_clear(&result);
	for (int past = 0; past < 2; past++) {
		(void)ask_for(2);
		expect_error(&result, STATUS_ALREADY_EXISTS, REASON_NONE, NULL);
		(void)ask_for(4);
		expect_error(&result, STATUS_ALREADY_EXISTS, REASON_NONE, NULL);
		bundle_init(&bundle, 3);
		bundle.request.bundle = bundle_id;
		bundle.grants[2].remote_port = 6000;
		(void)ask_bundle(&world, &bundle, &result);
		expect_error(&result, STATUS_ALREADY_EXISTS, REASON_NONE, NULL);
		if (past)
			break;
		cr_expect_eq(
			cancel_bundle(&world, world.ftp, bundle_id, false, &result), STATUS_OK);
		result_clear(&result);
		agent_settle(&gw1);
	}
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	end();
}

Test(server_bundle, a_retry_under_way_joins)
{
	begin_with_id("");
	gw1.holds_acks = true;
	bundle_init(&bundle, 3);
	bundle.request.bundle = bundle_id;
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 0, &result);
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 0, &other);
	WAIT_UNTIL(&world, gw1.door_count == 3);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done && other.done);
	for (size_t i = 0; i < 3; i++)
		cr_expect_str_eq(bundle_of(&result)->grants[i]->grant->id,
			bundle_of(&other)->grants[i]->grant->id);
	result_clear(&result);
	result_clear(&other);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	end();
}

/* ---- failures ---- */

Test(server_bundle, one_refused_by_the_gateway_ends_the_others)
{
	static char ids[3][ID_TEXT_SIZE];
	begin_with_id("");
	gw1.holds_acks = true;
	bundle_init(&bundle, 3);
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 0, &result);
	WAIT_UNTIL(&world, gw1.door_count == 3);
	for (size_t i = 0; i < 3; i++)
		memcpy(ids[i], gw1.doors[i].grant, ID_TEXT_SIZE);
	gw1.refuses = "no room";
	gw1.refuses_grant = ids[1];
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, NULL) == 3);
	cr_expect_eq(result.done, 0, "the others are still open, as far as the server knows");
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_not_null(strstr(result.err.text, "no room"), "%s", result.err.text);
	cr_expect_eq(strncmp(result.err.text, "grants[1]", 9), 0, "%s", result.err.text);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_GATEWAY_REFUSED, NULL);
	expect_state(&world, ids[0], GRANT_CANCELLED, END_BUNDLE_FAILED);
	expect_state(&world, ids[1], GRANT_FAILED, END_GATEWAY_REFUSED);
	expect_state(&world, ids[2], GRANT_CANCELLED, END_BUNDLE_FAILED);
	cr_expect_eq(live(), 0);
	end();
}

/* The server that learns of the refusal is another one than the one that decided (I7). */
Test(server_bundle, one_refused_after_a_restart_ends_the_others)
{
	static char second[ID_TEXT_SIZE];
	begin_with_id("");
	gw1.holds_acks = true;
	bundle_init(&bundle, 3);
	bundle.request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	cr_assert_eq(ask_bundle(&world, &bundle, &result), STATUS_OK);
	memcpy(second, bundle_of(&result)->grants[1]->grant->id, ID_TEXT_SIZE);
	result_clear(&result);
	restart_world(&world, &gw1);
	gw1.holds_acks = false;
	gw1.refuses = "no room";
	gw1.refuses_grant = second;
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, NULL) == 3);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	expect_state(&world, second, GRANT_FAILED, END_GATEWAY_REFUSED);
	end();
}

Test(server_bundle, a_missed_deadline_withdraws_all)
{
	begin_with_id("");
	gw1.holds_acks = true;
	bundle_init(&bundle, 3);
	static char ids[3][ID_TEXT_SIZE];
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 300, &result);
	WAIT_UNTIL(&world, gw1.door_count == 3);
	for (size_t i = 0; i < 3; i++)
		memcpy(ids[i], gw1.doors[i].grant, ID_TEXT_SIZE);
	WAIT_UNTIL(&world, result.done);
	expect_error(&result, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE, NULL);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, NULL) == 3);
	for (size_t i = 0; i < 3; i++)
		expect_state(&world, ids[i], GRANT_FAILED, END_DEADLINE_MISSED);
	cr_expect_eq(live(), 0);
	end();
}

/* Whatever happens to the link: withdrawn when it heals. */
Test(server_bundle, a_missed_deadline_holds_for_an_agent_that_returns)
{
	begin_with_id("");
	gw1.holds_acks = true;
	bundle_init(&bundle, 3);
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 500, &result);
	WAIT_UNTIL(&world, gw1.door_count == 3);
	agent_disconnect(&gw1);
	WAIT_UNTIL(&world, result.done);
	result_clear(&result);
	gw1.holds_acks = false;
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.door_count, 0);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, NULL) == 3);
	end();
}

Test(server_bundle, a_gateway_that_is_down)
{
	begin_with_id("");
	bundle_init(&bundle, 2);
	bundle.grants[0].gateway = bundle.grants[1].gateway = TEXT("gw2");
	(void)ask_bundle(&world, &bundle, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, NULL);
	end();
}

Test(server_bundle, a_disk_that_refuses_it, .timeout = 60)
{
	begin_with_id("");
	break_disk(true);
	(void)ask_for(3);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, NULL);
	break_disk(false);
	cr_expect_eq(gw1.door_count, 0);
	cr_expect_eq(live(), 0);
	cr_assert_eq(ask_for(3), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	break_disk(true);
	(void)cancel_bundle(&world, world.ftp, bundle_id, false, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, NULL);
	break_disk(false);
	cr_expect_eq(live(), 3);
	cr_expect_eq(gw1.door_count, 3);
	cr_assert_eq(cancel_bundle(&world, world.ftp, bundle_id, false, &result), STATUS_OK);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, ENDED, NULL), 3);
	end();
}

/* ---- one cancel ---- */

Test(server_bundle, is_cancelled_as_one)
{
	begin_with_id("");
	cr_assert_eq(ask_for(3), STATUS_OK);
	char first[ID_TEXT_SIZE];
	memcpy(first, bundle_of(&result)->grants[0]->grant->id, sizeof first);
	result_clear(&result);
	(void)cancel_bundle(&world, world.sip, bundle_id, false, &result);
	expect_error(&result, STATUS_NOT_FOUND, REASON_NONE, NULL);
	(void)cancel_bundle(&world, world.ftp, "x", false, &result);
	expect_error(&result, STATUS_INVALID_ARGUMENT, REASON_NONE, "bundle");
	(void)cancel_bundle(&world, world.ftp, first, false, &result);
	expect_error(&result, STATUS_NOT_FOUND, REASON_NONE, NULL);
	cr_expect_eq(cancel(&world, world.ftp, first, &result), STATUS_OK);
	result_clear(&result);
	cr_assert_eq(cancel_bundle(&world, world.ftp, bundle_id, false, &result), STATUS_OK, "%s",
		result.err.text);
	cr_expect_eq(bundle_of(&result)->n_grants, 2, "what was live of it");
	cr_expect_eq((int)bundle_of(&result)->grants[0]->grant->reason, END_CANCELLED_BY_FILTER);
	result_clear(&result);
	cr_expect_eq(gw1.door_count, 0);
	(void)cancel_bundle(&world, world.ftp, bundle_id, false, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	end();
}

Test(server_bundle, is_revoked_by_an_administrator_and_cut)
{
	char first[ID_TEXT_SIZE];
	begin_with_id("");
	cr_assert_eq(ask_for(2), STATUS_OK);
	memcpy(first, bundle_of(&result)->grants[0]->grant->id, sizeof first);
	result_clear(&result);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), first, 7, 0, 0);
	agent_settle(&gw1);
	expect_state(&world, first, GRANT_USED, END_USED_UP);
	cr_assert_eq(cancel_bundle(&world, world.admin, bundle_id, true, &result), STATUS_OK, "%s",
		result.err.text);
	cr_expect_eq(bundle_of(&result)->n_grants, 2, "the used one has a flow");
	result_clear(&result);
	cr_expect_eq(gw1.cut_count, 2);
	expect_state(&world, first, GRANT_USED, END_USED_UP);
	cr_expect_eq(COUNT(&world, CUT, first), 1);
	end();
}

/* The caller is gone before the disk has answered. */
Test(server_bundle, callers_that_vanish)
{
	begin_with_id("");
	bundle_init(&bundle, 3);
	bundle.request.bundle = bundle_id;
	start_grants_call(world.ftp, "RequestBundle", &bundle.request.base, 0, &result);
	rpc_client_free(world.ftp);
	world.ftp = world_connect(&world, TOKEN_FTP);
	cr_assert_eq(ask_for(3), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	Postern__V1__BundleCancelRequest request = POSTERN__V1__BUNDLE_CANCEL_REQUEST__INIT;
	request.bundle = bundle_id;
	start_grants_call(world.ftp, "CancelBundle", &request.base, 0, &other);
	rpc_client_free(world.ftp);
	world.ftp = world_connect(&world, TOKEN_FTP);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 3);
	result_clear(&other);
	end();
}
