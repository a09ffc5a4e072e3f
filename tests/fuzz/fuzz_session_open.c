/* link: postern_server */
/* A filter's wish for a session: of a gateway that there is, of a client that it may speak of, with
 * a primary connection that a gateway can look for, or refused with a reason. */
#include "proto/rpc/rpc.h"
#include "server/fleet/gateway.h"
#include "server/service/session_wire.h"
#include "tests/fuzz/message.h"

static struct server_config config = {.session_idle_limit_ms = 3600000};

/* One gateway; one definition that is shared and one that is not. Made once, never freed. */
static struct core *world(struct principal **ret_filter)
{
	static struct core core;
	static struct principal *filter;
	static const struct gateway_record gateway = {.name = "gw1"};
	static const struct protocol_record sip = {.name = "sip", .transport = 17, .shared = true};
	static const struct protocol_record ftp = {
		.name = "ftp", .transport = 6, .owner = "somebody"};
	static const struct principal_record record = {.name = "inspector",
		.role = RPC_ROLE_FILTER,
		.gateways = "gw1",
		.clients = "10.77.0.0/16,fd77::/32"};
	if (!filter) {
		core.config = &config;
		protocols_init(&core.protocols);
		principals_init(&core.principals);
		gateways_init(&core);
		check(gateway_load(&core, &gateway) != NULL);
		check(protocols_add(&core.protocols, &sip));
		check(protocols_add(&core.protocols, &ftp));
		filter = principals_add(&core.principals, &record);
		check(filter != NULL);
	}
	*ret_filter = filter;
	return &core;
}

static void check_primary(const struct session_record *record)
{
	const struct flow *primary = &record->primary;
	if (primary->transport == 0)
		return;
	check(primary->transport == 6 || primary->transport == 17);
	check(addr_equal(&primary->client.addr, &record->client));
	check(addr_is_forwardable(&primary->remote.addr));
	check(primary->remote.addr.family == primary->client.addr.family);
	check(primary->client.port > 0 && primary->remote.port > 0);
	check(primary->external.addr.family == ADDR_NONE && primary->id == 0);
}

static void check_record(const struct session_record *record, bool of_filter)
{
	check(strcmp(record->gateway, "gw1") == 0);
	check_addr(&record->client);
	check(addr_is_forwardable(&record->client));
	check(memchr(record->user, '\0', sizeof record->user) != NULL);
	check(record->protocol[0] == '\0' || strcmp(record->protocol, "sip") == 0 ||
		(!of_filter && strcmp(record->protocol, "ftp") == 0));
	check(record->idle_limit_ms > 0 && record->idle_limit_ms <= 7ULL * 86400 * 1000);
	check(!of_filter ||
		(record->client.family == ADDR_IPV4
				? record->client.bytes[0] == 10 && record->client.bytes[1] == 77
				: record->client.bytes[0] == 0xfd));
	check_primary(record);
}

static void run(const Postern__V1__SessionOpenRequest *input, bool of_filter)
{
	struct principal *filter;
	const struct core *core = world(&filter);
	struct session_record record = {.filter = "inspector"};
	struct session_wire wire;
	struct error err;
	enum status status =
		session_from_wire(core, input, of_filter ? filter : NULL, &record, &err);
	if (status) {
		check_refusal(status, &err);
		return;
	}
	check_record(&record, of_filter);
	session_to_wire(&record, 0, &wire);
	check((wire.message.primary != NULL) == (input->primary != NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message =
		message_unpack(&postern__v1__session_open_request__descriptor, data, size);
	if (!message)
		return 0;
	run((const Postern__V1__SessionOpenRequest *)message, true);
	run((const Postern__V1__SessionOpenRequest *)message, false);
	message_free(message);
	return 0;
}
