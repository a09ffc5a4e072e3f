/* link: postern_server */
/* A principal that is added: refused with a reason, or its scope is one that compiles to no more
 * than it says, and is told and taken again as it stands. */
#include "proto/rpc/rpc.h"
#include "server/fleet/gateway.h"
#include "server/service/principal_wire.h"
#include "tests/fuzz/message.h"

static struct server_config config = {.max_lifetime_ms = 86400000};

/* Two gateways and a definition. Made once, never freed. */
static const struct core *world(void)
{
	static struct core core;
	static const struct gateway_record gateways[] = {{.name = "gw1"}, {.name = "gw2"}};
	static const struct protocol_record protocol = {
		.name = "ftp", .transport = 6, .guid = {.bytes = {1, 2, 3}}};
	if (!core.config) {
		core.config = &config;
		protocols_init(&core.protocols);
		principals_init(&core.principals);
		gateways_init(&core);
		check(gateway_load(&core, &gateways[0]) && gateway_load(&core, &gateways[1]));
		check(protocols_add(&core.protocols, &protocol));
	}
	return &core;
}

static void check_networks(const char *list, size_t count)
{
	struct networks networks;
	size_t bad;
	check(networks_compile(list, &networks, &bad));
	check(bad == 0 && networks.count == count && networks.limited == (count > 0));
	networks_fini(&networks);
}

static void check_again(const struct core *core, const struct principal_record *record)
{
	struct principal_record again = {0};
	struct principal_wire wire;
	struct error err;
	principal_to_wire(record, 0, &wire);
	check(principal_from_wire(core, &wire.message, &again, &err) == STATUS_OK);
	check(strcmp(again.gateways, record->gateways) == 0);
	check(strcmp(again.clients, record->clients) == 0);
	check(strcmp(again.destinations, record->destinations) == 0);
	check(strcmp(again.protocols, record->protocols) == 0);
	check(again.role == record->role && again.max_grants == record->max_grants);
}

static void check_record(const struct core *core, const Postern__V1__Principal *input,
	const struct principal_record *record)
{
	char text[ENTRY_DETAIL_SIZE];
	check(name_is_valid(record->name));
	check(record->role == RPC_ROLE_FILTER || record->role == RPC_ROLE_AUDITOR ||
		record->role == RPC_ROLE_ADMIN);
	check(record->role == RPC_ROLE_FILTER || !record->clients[0]);
	check_networks(record->clients, input->n_clients);
	check_networks(record->destinations, input->n_destinations);
	check(record->max_grants <= INT64_MAX && record->grants_per_second <= SCOPE_MAX_RATE);
	check(record->max_lifetime_ms <= config.max_lifetime_ms);
	principal_describe(record, text, sizeof text);
	check(memchr(text, '\0', sizeof text) != NULL);
	check_again(core, record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message = message_unpack(&postern__v1__principal__descriptor, data, size);
	const Postern__V1__Principal *input = (const Postern__V1__Principal *)message;
	struct principal_record record = {0};
	struct error err;
	if (!message)
		return 0;
	enum status status = principal_from_wire(world(), input, &record, &err);
	if (status)
		check_refusal(status, &err);
	else
		check_record(world(), input, &record);
	message_free(message);
	return 0;
}
