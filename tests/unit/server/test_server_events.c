/* Events.Watch: nobody misses anything (I8), nobody hears what is not for him. */
#include "tests/unit/server/world_with_agents.h"

struct watch {
	uint64_t sequences[8192];
	Postern__V1__EntryKind kinds[8192];
	size_t count, batches;
	uint64_t cursor, id;
	bool caught_up, done;
	struct rpc_client *client;
};

static void on_batch(void *arg, const ProtobufCMessage *message)
{
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)message;
	struct watch *watch = arg;
	for (size_t i = 0; i < batch->n_entries; i++) {
		cr_assert_lt(watch->count, 8192);
		cr_assert_gt(batch->entries[i]->sequence, watch->cursor);
		cr_assert_leq(batch->entries[i]->sequence, batch->cursor);
		watch->kinds[watch->count] = batch->entries[i]->kind;
		watch->sequences[watch->count++] = batch->entries[i]->sequence;
	}
	cr_assert_geq(batch->cursor, watch->cursor);
	watch->cursor = batch->cursor;
	watch->caught_up = batch->caught_up;
	watch->batches++;
}

static void on_watch_end(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	(void)reply;
	(void)err;
	((struct watch *)arg)->done = true;
}

static void start_watch(
	struct watch *watch, struct rpc_client *client, const Postern__V1__WatchRequest *request)
{
	struct rpc_call_options options = {.on_item = on_batch, .credit = 2};
	struct error err;
	memset(watch, 0, sizeof *watch);
	watch->client = client;
	cr_assert_eq(rpc_client_call(client, &postern__v1__events__descriptor, "Watch",
			     &request->base, &options, on_watch_end, watch, &watch->id, &err),
		STATUS_OK);
	WAIT_UNTIL(&world, watch->caught_up);
}

static void stop_watch(struct watch *watch)
{
	rpc_client_cancel(watch->client, watch->id);
	WAIT_UNTIL(&world, watch->done);
}

static void one_life(const char *context, bool notify)
{
	Postern__V1__GrantRequest request = grant_request();
	request.notify = notify;
	request.context =
		(ProtobufCBinaryData){.len = strlen(context), .data = (uint8_t *)TEXT(context)};
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 1, 0);
	agent_settle(&gw1);
}

Test(server_events, a_filter_hears_of_its_own_grants_that_asked_for_it)
{
	static struct watch mine, others, all;
	static const Postern__V1__EntryKind life[] = {
		KIND(GRANTED), KIND(INSTALLED), KIND(ESTABLISHED), KIND(ENDED), KIND(CLOSED)};
	begin("");
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	request.from_now = true;
	start_watch(&mine, world.ftp, &request);
	start_watch(&others, world.sip, &request);
	start_watch(&all, world.auditor, &request);
	one_life("a", true);
	one_life("b", false);
	WAIT_UNTIL(&world, all.count >= 10);
	cr_expect_eq(mine.count, 5);
	for (size_t i = 0; i < mine.count && i < 5; i++)
		cr_expect_eq(mine.kinds[i], life[i], "%zu: %d", i, (int)mine.kinds[i]);
	cr_expect_eq(others.count, 0);
	stop_watch(&mine);
	stop_watch(&others);
	stop_watch(&all);
	end();
}

/* From any cursor, also across a restart, exactly what is behind it. */
Test(server_events, a_cursor_resumes)
{
	static struct watch whole, rest;
	begin("");
	for (int i = 0; i < 20; i++)
		one_life("x", true);
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	start_watch(&whole, world.ftp, &request);
	cr_expect_eq(whole.count, 100);
	stop_watch(&whole);
	restart_world(&world, &gw1);
	for (size_t at = 0; at < whole.count; at += 33) {
		request.cursor = whole.sequences[at];
		start_watch(&rest, world.ftp, &request);
		cr_expect_eq(rest.count, whole.count - at - 1);
		cr_expect_eq(memcmp(rest.sequences, whole.sequences + at + 1,
				     rest.count * sizeof(uint64_t)),
			0);
		stop_watch(&rest);
	}
	end();
}

Test(server_events, kinds_and_grants_filter)
{
	static struct watch watch;
	Postern__V1__EntryKind kind = KIND(CLOSED);
	begin("");
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	request.n_kinds = 1;
	request.kinds = &kind;
	start_watch(&watch, world.admin, &request);
	for (int i = 0; i < 3; i++)
		one_life("x", false);
	WAIT_UNTIL(&world, watch.count == 3);
	for (size_t i = 0; i < watch.count; i++)
		cr_expect_eq(watch.kinds[i], KIND(CLOSED));
	stop_watch(&watch);
	end();
}

/* ---- a slow reader ---- */

struct slow {
	uint64_t sequences[8192];
	size_t count;
	bool done;
};

static void on_slow_batch(void *arg, const ProtobufCMessage *message)
{
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)message;
	struct slow *slow = arg;
	for (size_t i = 0; i < batch->n_entries; i++)
		slow->sequences[slow->count++] = batch->entries[i]->sequence;
}

static void on_slow_end(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	(void)reply;
	(void)err;
	((struct slow *)arg)->done = true;
}

/* One that begins at the beginning while entries are made, and so reads pages, then the ring. */
Test(server_events, one_that_is_behind_catches_up_and_misses_nothing)
{
	static struct slow slow;
	begin("");
	for (int i = 0; i < 100; i++)
		one_life("x", true);
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = on_slow_batch, .credit = 1};
	struct error err;
	uint64_t id;
	restart(); /* the ring is empty now: pages */
	cr_assert_eq(rpc_client_call(world.ftp, &postern__v1__events__descriptor, "Watch",
			     &request.base, &options, on_slow_end, &slow, &id, &err),
		STATUS_OK);
	for (int i = 0; i < 50; i++)
		one_life("y", true);
	WAIT_UNTIL(&world, slow.count >= 750);
	cr_expect_eq(slow.count, 750);
	for (size_t i = 1; i < slow.count; i++)
		cr_expect_gt(slow.sequences[i], slow.sequences[i - 1]);
	rpc_client_cancel(world.ftp, id);
	WAIT_UNTIL(&world, slow.done);
	end();
}

/* ---- roles ---- */

Test(server_events, roles_are_kept_apart)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	cr_expect_eq(ask(&world, world.auditor, &request, &result), STATUS_PERMISSION_DENIED);
	result_clear(&result);
	cr_expect_eq(ask(&world, gw1.client, &request, &result), STATUS_PERMISSION_DENIED);
	result_clear(&result);
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	cr_expect_eq(call(&world, world.ftp, &postern__v1__audit__descriptor, "Query", &query.base,
			     &result),
		STATUS_PERMISSION_DENIED);
	result_clear(&result);
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;
	principal.name = TEXT("mallory");
	principal.role = TEXT("admin");
	cr_expect_eq(call(&world, world.ftp, &postern__v1__policy__descriptor, "AddPrincipal",
			     &principal.base, &result),
		STATUS_PERMISSION_DENIED);
	result_clear(&result);
	Postern__V1__JoinRequest join = POSTERN__V1__JOIN_REQUEST__INIT;
	cr_expect_eq(call(&world, world.admin, &postern__v1__agents__descriptor, "Join", &join.base,
			     &result),
		STATUS_PERMISSION_DENIED);
	result_clear(&result);
	end();
}

/* A new principal works at once, and a protocol may be registered at every start of a filter. */
Test(server_events, administration_takes_effect_at_once)
{
	begin("");
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;
	principal.name = TEXT("tftp-filter");
	principal.role = TEXT("filter");
	cr_assert_eq(call(&world, world.admin, &postern__v1__policy__descriptor, "AddPrincipal",
			     &principal.base, &result),
		STATUS_OK, "%s", result.err.text);
	snprintf(world.tokens[TOKEN_SIP], TOKEN_TEXT_SIZE, "%s",
		((Postern__V1__AddPrincipalReply *)result.reply)->token);
	result_clear(&result);
	struct rpc_client *tftp = world_connect(&world, TOKEN_SIP);
	Postern__V1__Protocol protocol = POSTERN__V1__PROTOCOL__INIT;
	protocol.name = TEXT("tftp");
	protocol.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	for (int i = 0; i < 2; i++) {
		cr_expect_eq(call(&world, tftp, &postern__v1__policy__descriptor,
				     "RegisterProtocol", &protocol.base, &result),
			STATUS_OK, "%s", result.err.text);
		result_clear(&result);
	}
	cr_expect_eq(COUNT(&world, PROTOCOL_REGISTERED, NULL), 1);
	protocol.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	cr_expect_eq(call(&world, tftp, &postern__v1__policy__descriptor, "RegisterProtocol",
			     &protocol.base, &result),
		STATUS_ALREADY_EXISTS);
	result_clear(&result);
	rpc_client_free(tftp);
	end();
}
