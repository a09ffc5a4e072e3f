/* Protocol definitions and their owners, filters and their scopes: over the wire, across a restart.
 */
#include "tests/unit/server/world_with_agents.h"

static struct bundle bundle;
static struct rpc_client *sip1; /* the filter that a test adds */

static void end_with_filter(void)
{
	rpc_client_free(sip1);
	end();
}

static void restart_with_filter(void)
{
	rpc_client_free(sip1);
	restart();
	sip1 = world_connect(&world, TOKEN_SIP);
}

static enum status register_protocol(
	struct rpc_client *client, const Postern__V1__Protocol *protocol)
{
	return call(&world, client, &postern__v1__policy__descriptor, "RegisterProtocol",
		&protocol->base, &result);
}

static void allow(const char *protocol)
{
	Postern__V1__AllowProtocolRequest request = POSTERN__V1__ALLOW_PROTOCOL_REQUEST__INIT;
	request.protocol = TEXT(protocol);
	cr_assert_eq(call(&world, world.admin, &postern__v1__policy__descriptor, "AllowProtocol",
			     &request.base, &result),
		STATUS_OK, "%s", result.err.text);
	result_clear(&result);
}

static enum status add_principal(const Postern__V1__Principal *principal)
{
	return call(&world, world.admin, &postern__v1__policy__descriptor, "AddPrincipal",
		&principal->base, &result);
}

static Postern__V1__Principal principal_of(const char *name)
{
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;
	principal.name = TEXT(name);
	principal.role = TEXT("filter");
	return principal;
}

/* Adds it and connects with its token. */
static void become(const Postern__V1__Principal *principal)
{
	cr_assert_eq(add_principal(principal), STATUS_OK, "%s", result.err.text);
	snprintf(world.tokens[TOKEN_SIP], TOKEN_TEXT_SIZE, "%s",
		((Postern__V1__AddPrincipalReply *)result.reply)->token);
	result_clear(&result);
	sip1 = world_connect(&world, TOKEN_SIP);
}

static Postern__V1__Protocol protocol_of(const char *name)
{
	Postern__V1__Protocol protocol = POSTERN__V1__PROTOCOL__INIT;
	protocol.name = TEXT(name);
	protocol.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	return protocol;
}

static void expect_refusal(
	enum status status, enum reason reason, const char *field, const char *words)
{
	cr_expect_eq(result.err.status, status, "%s: %s", status_name(result.err.status),
		result.err.text);
	cr_expect_eq(result.err.reason, reason, "%s", result.err.text);
	cr_expect_str_eq(result.err.field, field, "%s", result.err.text);
	cr_expect(strstr(result.err.text, words), "%s", result.err.text);
	result_clear(&result);
}

/* ---- protocol definitions ---- */

/* Row 9. */
Test(server_scope, a_protocol_is_its_owners)
{
	char guid[ID_TEXT_SIZE];
	begin("");
	Postern__V1__Principal filter = principal_of("sip1");
	become(&filter);
	Postern__V1__Protocol sip = protocol_of("sip");
	cr_assert_eq(register_protocol(sip1, &sip), STATUS_OK, "%s", result.err.text);
	const Postern__V1__Protocol *known = (Postern__V1__Protocol *)result.reply;
	cr_expect_str_eq(known->owner, "sip1");
	cr_expect_not(known->shared);
	snprintf(guid, sizeof guid, "%s", known->guid);
	result_clear(&result);
	allow("sip");
	Postern__V1__GrantRequest request = grant_request();
	for (int i = 0; i < 2; i++) {
		request.protocol = i ? guid : TEXT("sip");
		request.remote_port++;
		cr_expect_eq(
			ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
		result_clear(&result);
		(void)ask(&world, world.ftp, &request, &result);
		expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "protocol",
			"sip belongs to filter sip1");
		request.remote_port++;
		cr_expect_eq(ask(&world, world.admin, &request, &result), STATUS_OK,
			"an administrator may");
		result_clear(&result);
	}
	request.protocol = TEXT("01930000-0000-7000-8000-000000000000");
	(void)ask(&world, sip1, &request, &result);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "protocol", "is not registered");
	Postern__V1__SessionOpenRequest open = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	open.gateway = TEXT("gw1");
	open.client = TEXT("10.77.1.2");
	open.protocol = TEXT("sip");
	(void)call(
		&world, world.ftp, &postern__v1__sessions__descriptor, "Open", &open.base, &result);
	expect_refusal(
		STATUS_INVALID_ARGUMENT, REASON_NONE, "protocol", "sip belongs to filter sip1");
	restart_with_filter();
	request = grant_request();
	request.remote_port = 5000;
	request.protocol = TEXT("sip");
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(
		STATUS_INVALID_ARGUMENT, REASON_NONE, "protocol", "sip belongs to filter sip1");
	end_with_filter();
}

Test(server_scope, a_shared_protocol_is_everybodys)
{
	begin("");
	Postern__V1__Principal filter = principal_of("sip1");
	become(&filter);
	Postern__V1__Protocol sip = protocol_of("sip"), rtsp = protocol_of("rtsp");
	sip.shared = true;
	cr_assert_eq(register_protocol(sip1, &sip), STATUS_OK);
	result_clear(&result);
	cr_assert_eq(register_protocol(world.admin, &rtsp), STATUS_OK);
	cr_expect(((Postern__V1__Protocol *)result.reply)->shared, "an administrator's is shared");
	result_clear(&result);
	allow("sip");
	allow("rtsp");
	Postern__V1__GrantRequest request = grant_request();
	request.protocol = TEXT("sip");
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	request.protocol = TEXT("rtsp");
	request.remote_port++;
	cr_expect_eq(ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	end_with_filter();
}

Test(server_scope, nobody_takes_anothers_name)
{
	char guid[ID_TEXT_SIZE];
	begin("");
	Postern__V1__Principal filter = principal_of("sip1");
	become(&filter);
	Postern__V1__Protocol sip = protocol_of("sip");
	cr_assert_eq(register_protocol(sip1, &sip), STATUS_OK);
	snprintf(guid, sizeof guid, "%s", ((Postern__V1__Protocol *)result.reply)->guid);
	result_clear(&result);
	/* Not even as it stands, by name or by GUID. */
	(void)register_protocol(world.ftp, &sip);
	expect_refusal(STATUS_ALREADY_EXISTS, REASON_NONE, "", "of filter sip1");
	Postern__V1__Protocol other = protocol_of("other");
	other.guid = guid;
	(void)register_protocol(world.ftp, &other);
	expect_refusal(STATUS_ALREADY_EXISTS, REASON_NONE, "", "sip is a protocol definition of");
	/* Nor may its owner change it. */
	for (int i = 0; i < 4; i++) {
		Postern__V1__Protocol changed = sip;
		changed.shared = i == 0;
		changed.low_ports = i == 1;
		changed.max_ports = i == 2 ? 2 : 0;
		changed.remote_scope = i == 3 ? POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER
					      : POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY;
		(void)register_protocol(sip1, &changed);
		expect_refusal(STATUS_ALREADY_EXISTS, REASON_NONE, "", "(sip, of sip1)");
	}
	cr_expect_eq(register_protocol(sip1, &sip), STATUS_OK, "the same once more");
	result_clear(&result);
	/* What is shared may be registered as it stands, and keeps its owner's bounds. */
	Postern__V1__Protocol rtsp = protocol_of("rtsp");
	rtsp.remote_scope = POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER;
	cr_assert_eq(register_protocol(world.admin, &rtsp), STATUS_OK);
	result_clear(&result);
	rtsp.remote_scope = POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY;
	cr_assert_eq(register_protocol(sip1, &rtsp), STATUS_OK, "%s", result.err.text);
	const Postern__V1__Protocol *known = (Postern__V1__Protocol *)result.reply;
	cr_expect_eq(known->remote_scope, POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER);
	cr_expect_str_eq(known->owner, "admin");
	result_clear(&result);
	rtsp.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	(void)register_protocol(sip1, &rtsp);
	expect_refusal(STATUS_ALREADY_EXISTS, REASON_NONE, "", "(rtsp, of admin)");
	end_with_filter();
}

Test(server_scope, bounds_are_checked_when_they_are_registered)
{
	begin("");
	Postern__V1__Protocol sip = protocol_of("sip");
	sip.max_ports = 1025;
	(void)register_protocol(world.ftp, &sip);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "max_ports", "1025: at most 1024");
	sip.max_ports = 1024;
	sip.remote_scope = (Postern__V1__RemoteScope)3;
	(void)register_protocol(world.ftp, &sip);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "remote_scope", "3 is not one");
	sip.remote_scope = POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER_NETWORK;
	sip.low_ports = true;
	cr_expect_eq(register_protocol(world.ftp, &sip), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	sip1 = world_connect(&world, TOKEN_SIP);
	restart_with_filter();
	Postern__V1__ListProtocolsRequest list = POSTERN__V1__LIST_PROTOCOLS_REQUEST__INIT;
	(void)call(&world, world.auditor, &postern__v1__policy__descriptor, "ListProtocols",
		&list.base, &result);
	const Postern__V1__Protocol *found = NULL;
	for (size_t i = 0; i < result.item_count; i++)
		if (strcmp(((Postern__V1__Protocol *)result.items[i])->name, "sip") == 0)
			found = (Postern__V1__Protocol *)result.items[i];
	cr_assert_not_null(found);
	cr_expect_eq(found->max_ports, 1024);
	cr_expect(found->low_ports);
	cr_expect_eq(found->remote_scope, POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER_NETWORK);
	cr_expect_not(found->shared);
	result_clear(&result);
	end_with_filter();
}

/* Row 21, whole: the peer of the session's primary connection and nobody else. */
Test(server_scope, a_grant_is_held_to_its_definition)
{
	char session[ID_TEXT_SIZE];
	begin("");
	Postern__V1__Protocol strict = protocol_of("strict");
	strict.remote_scope = POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER;
	cr_assert_eq(register_protocol(world.ftp, &strict), STATUS_OK);
	result_clear(&result);
	allow("strict");
	Postern__V1__GrantRequest request = grant_request();
	request.protocol = TEXT("strict");
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "session", "open a session with its");
	get_session(&world, session);
	request.session = session;
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "session", "open a session with its");
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, result.done);
	cr_assert_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	snprintf(session, sizeof session, "%s", ((Postern__V1__Session *)result.reply)->id);
	result_clear(&result);
	request.remote = TEXT("10.77.2.3");
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(
		STATUS_INVALID_ARGUMENT, REASON_NONE, "remote", "for 10.77.2.2/32, the peer");
	request.remote = TEXT("10.77.2.2");
	request.remote_port = 22;
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "remote_port", "22:");
	request.remote_port = 1046;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	request = accept_request();
	request.protocol = TEXT("strict");
	request.session = session;
	request.remote = TEXT("10.77.2.3");
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(
		STATUS_INVALID_ARGUMENT, REASON_NONE, "remote", "for 10.77.2.2/32, the peer");
	request.remote = TEXT("10.77.2.2");
	request.client_port = 22;
	(void)ask(&world, world.ftp, &request, &result);
	expect_refusal(STATUS_INVALID_ARGUMENT, REASON_NONE, "client_port", "22:");
	request.client_port = 4000;
	cr_expect_eq(ask(&world, world.ftp, &request, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 2);
	cr_expect_eq(COUNT(&world, DENIED, NULL), 0);
	end_with_filter();
}

/* ---- scopes ---- */

static char *networks[] = {TEXT("10.77.1.9/24"), TEXT("FD77:1::/64")},
	    *remotes[] = {TEXT("10.77.2.2"), TEXT("fd77:2::/64")}, *gateways[] = {TEXT("gw1")},
	    *protocols[] = {TEXT("ftp"), TEXT("later")};

static Postern__V1__Principal scoped(void)
{
	Postern__V1__Principal filter = principal_of("sip1");
	filter.n_gateways = 1;
	filter.gateways = gateways;
	filter.n_clients = 2;
	filter.clients = networks;
	filter.n_destinations = 2;
	filter.destinations = remotes;
	filter.n_protocols = 2;
	filter.protocols = protocols;
	filter.grants_per_second = 1000;
	filter.max_lifetime_ms = 30000;
	return filter;
}

static void expect_scope(void)
{
	Postern__V1__ListPrincipalsRequest list = POSTERN__V1__LIST_PRINCIPALS_REQUEST__INIT;
	list.role = TEXT("filter");
	(void)call(&world, world.auditor, &postern__v1__policy__descriptor, "ListPrincipals",
		&list.base, &result);
	const Postern__V1__Principal *found = NULL;
	for (size_t i = 0; i < result.item_count; i++)
		if (strcmp(((Postern__V1__Principal *)result.items[i])->name, "sip1") == 0)
			found = (Postern__V1__Principal *)result.items[i];
	cr_assert_not_null(found);
	cr_assert_eq(found->n_clients, 2);
	cr_expect_str_eq(found->clients[0], "10.77.1.0/24");
	cr_expect_str_eq(found->clients[1], "fd77:1::/64");
	cr_assert_eq(found->n_destinations, 2);
	cr_expect_str_eq(found->destinations[0], "10.77.2.2/32");
	cr_expect_str_eq(found->destinations[1], "fd77:2::/64");
	cr_assert_eq(found->n_protocols, 2);
	cr_expect_str_eq(found->protocols[1], "later");
	cr_assert_eq(found->n_gateways, 1);
	cr_expect_str_eq(found->gateways[0], "gw1");
	cr_expect_eq(found->grants_per_second, 1000);
	cr_expect_eq(found->max_lifetime_ms, 30000);
	result_clear(&result);
}

static void expect_out_of_scope(const Postern__V1__GrantRequest *request, const char *words)
{
	(void)ask(&world, sip1, request, &result);
	expect_refusal(STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE, "", words);
}

/* By the filter whose longest lifetime is 30 s. */
static void expect_renewed(const char *id, uint64_t lifetime_ms, bool is_clamped)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	request.id = TEXT(id);
	request.lifetime_ms = lifetime_ms;
	cr_assert_eq(grants_call(&world, sip1, "Renew", &request.base, &result), STATUS_OK, "%s",
		result.err.text);
	cr_expect_eq(granted(&result)->lifetime_clamped, is_clamped);
	cr_expect_leq(granted(&result)->left_ms, 30000);
	result_clear(&result);
}

/* Row 22, before and after a restart. */
Test(server_scope, a_filter_is_held_to_its_scope)
{
	char id[ID_TEXT_SIZE];
	begin("");
	Postern__V1__Principal filter = scoped();
	become(&filter);
	Postern__V1__Entry *entry = NULL;
	cr_assert_eq(count_entries(&world, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_PRINCIPAL_ADDED,
			     NULL, &entry),
		1);
	cr_expect_str_eq(entry->detail,
		"filter sip1; grants_per_second 1000; max_lifetime_ms 30000; gateways gw1; clients "
		"10.77.1.0/24,fd77:1::/64; destinations 10.77.2.2/32,fd77:2::/64; protocols "
		"ftp,later");
	protobuf_c_message_free_unpacked(&entry->base, NULL);
	for (int i = 0; i < 2; i++) {
		expect_scope();
		Postern__V1__GrantRequest request = grant_request();
		request.remote_port = 2000 + (uint32_t)i;
		request.lifetime_ms = 60000;
		cr_assert_eq(
			ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
		cr_expect_eq(granted(&result)->lifetime_ms, 30000, "cut to the filter's own");
		cr_expect(granted(&result)->lifetime_clamped, "and said so");
		snprintf(id, sizeof id, "%s", granted(&result)->id);
		result_clear(&result);
		expect_renewed(id, 20000, false);
		expect_renewed(id, 60000, true);
		request.client = TEXT("fd77:1::2");
		request.remote = TEXT("fd77:2::2");
		request.lifetime_ms = 0;
		cr_assert_eq(
			ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
		cr_expect_eq(granted(&result)->lifetime_ms, 30000);
		cr_expect_not(granted(&result)->lifetime_clamped, "it named none");
		result_clear(&result);
		request.remote = TEXT("fd77:3::2");
		expect_out_of_scope(&request,
			"remote fd77:3::2: the destinations of its scope are "
			"10.77.2.2/32,fd77:2::/64");
		request = grant_request();
		request.client = TEXT("10.77.2.2");
		expect_out_of_scope(&request, "client 10.77.2.2: the clients of its scope are");
		request = grant_request();
		request.remote = TEXT("10.77.2.3");
		expect_out_of_scope(&request, "remote 10.77.2.3");
		request = grant_request();
		request.protocol = TEXT("dns");
		expect_out_of_scope(
			&request, "protocol dns: the protocols of its scope are ftp,later");
		request = grant_request();
		request.gateway = TEXT("gw2");
		expect_out_of_scope(&request, "gateway gw2: the gateways of its scope are gw1");
		Postern__V1__SessionOpenRequest open = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
		open.gateway = TEXT("gw1");
		open.client = TEXT("10.77.2.2");
		(void)call(&world, sip1, &postern__v1__sessions__descriptor, "Open", &open.base,
			&result);
		expect_refusal(
			STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE, "", "client 10.77.2.2");
		restart_with_filter();
	}
	end_with_filter();
}

Test(server_scope, a_rate)
{
	begin("");
	Postern__V1__Principal filter = principal_of("sip1");
	filter.grants_per_second = 2;
	become(&filter);
	Postern__V1__GrantRequest request = grant_request();
	request.request_id = TEXT("01930000-0000-7000-8000-000000000001");
	for (int i = 0; i < 5; i++) { /* a repetition is not another one */
		cr_assert_eq(
			ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
		result_clear(&result);
	}
	request.request_id = TEXT("");
	bool refused = false;
	int64_t deadline = clock_mono_us() + WORLD_DEADLINE_US;
	while (!refused && clock_mono_us() < deadline) {
		request.remote_port++;
		refused = ask(&world, sip1, &request, &result) != STATUS_OK;
		if (!refused)
			result_clear(&result);
	}
	expect_refusal(STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, "",
		"filter sip1 may ask for 2 grants a second, its grants_per_second: try again in");
	world_idle(&world, 500);
	cr_expect_eq(ask(&world, sip1, &request, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	/* Each member of a bundle is one. */
	bundle_init(&bundle, 3);
	(void)grants_call(&world, sip1, "RequestBundle", &bundle.request.base, &result);
	expect_refusal(STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, "",
		"filter sip1 may ask for 2 grants a second, its grants_per_second: 3 at once");
	world_idle(&world, 1000);
	bundle.request.n_grants = 2;
	cr_expect_eq(grants_call(&world, sip1, "RequestBundle", &bundle.request.base, &result),
		STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	end_with_filter();
}

static void expect_bad_principal(const Postern__V1__Principal *principal, enum status status,
	enum reason reason, const char *field, const char *words)
{
	(void)add_principal(principal);
	expect_refusal(status, reason, field, words);
}

Test(server_scope, is_checked_when_it_is_given)
{
	static char *wrong[] = {TEXT("10.77.1.0/24"), TEXT("10.77.1.0/33")},
		    *unknown[] = {TEXT("gw1"), TEXT("gw9")}, *bad_name[] = {TEXT("Not A Name")},
		    *many[200];
	for (size_t i = 0; i < 200; i++)
		many[i] = TEXT("fd77:1111:2222:3333::/64");
	begin("");
	Postern__V1__Principal filter = principal_of("sip1");
	filter.n_clients = 2;
	filter.clients = wrong;
	expect_bad_principal(&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "clients",
		"clients: \"10.77.1.0/33\" is not a network");
	filter.clients = many;
	filter.n_clients = 200;
	expect_bad_principal(
		&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "clients", "too many at");
	filter = principal_of("sip1");
	filter.n_destinations = 2;
	filter.destinations = wrong;
	expect_bad_principal(
		&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "destinations", "10.77.1.0/33");
	filter = principal_of("sip1");
	filter.n_gateways = 2;
	filter.gateways = unknown;
	expect_bad_principal(&filter, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY, "", "gw9");
	filter = principal_of("sip1");
	filter.n_protocols = 1;
	filter.protocols = bad_name;
	expect_bad_principal(
		&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "protocols", "Not A Name");
	filter = principal_of("sip1");
	filter.grants_per_second = 1000001;
	expect_bad_principal(&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "grants_per_second",
		"at most 1000000");
	filter = principal_of("sip1");
	filter.max_lifetime_ms = 25ULL * 3600 * 1000;
	expect_bad_principal(&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "max_lifetime_ms",
		"max_lifetime of 86400000");
	filter = principal_of("reader");
	filter.role = TEXT("auditor");
	filter.max_grants = 1;
	expect_bad_principal(&filter, STATUS_INVALID_ARGUMENT, REASON_NONE, "role", "has no scope");
	cr_expect_eq(COUNT(&world, PRINCIPAL_ADDED, NULL), 0);
	end_with_filter();
}
