/* The fake server's protocol definitions, filters and gateways: what was registered is answered and
 * listed as it was asked for. */
#include <stdlib.h>

#include "postern/v1/gateways.pb-c.h"
#include "postern/v1/policy.pb-c.h"
#include "tests/unit/client/fake_internal.h"

/* The last of each, on the server's thread; freed by fake_policy_reset. */
static ProtobufCMessage *protocol, *principal;

static void keep(ProtobufCMessage **kept, const ProtobufCMessage *message)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(size + 1);

	protobuf_c_message_pack(message, bytes);
	if (*kept)
		protobuf_c_message_free_unpacked(*kept, NULL);
	*kept = protobuf_c_message_unpack(message->descriptor, NULL, size, bytes);
	free(bytes);
}

void fake_policy_reset(void)
{
	if (protocol)
		protobuf_c_message_free_unpacked(protocol, NULL);
	if (principal)
		protobuf_c_message_free_unpacked(principal, NULL);
	protocol = principal = NULL;
}

static void fail_unimplemented(struct rpc_call *call)
{
	struct error err;

	error_set(&err, STATUS_UNIMPLEMENTED, "not in this play");
	rpc_fail(call, &err);
}

static void list(struct rpc_call *call, const ProtobufCMessage *kept)
{
	if (kept)
		rpc_item(call, kept);
	rpc_end(call);
}

static void on_register_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__Protocol *input, Postern__V1__Protocol_Closure closure, void *call)
{
	(void)service, (void)closure;
	keep(&protocol, &input->base);
	rpc_reply(call, protocol);
}

static void on_list_protocols(Postern__V1__Policy_Service *service,
	const Postern__V1__ListProtocolsRequest *input, Postern__V1__Protocol_Closure closure,
	void *call)
{
	Postern__V1__Protocol documented = POSTERN__V1__PROTOCOL__INIT;
	char *ports[] = {(char *)"5004", (char *)"16384-32767"};
	char *addresses[] = {(char *)"fd77:2::/64"};

	(void)service, (void)input, (void)closure;
	documented.name = (char *)"documented";
	documented.secondary_ports = ports;
	documented.n_secondary_ports = 2;
	documented.secondary_addresses = addresses;
	documented.n_secondary_addresses = 1;
	documented.revision = 14;
	rpc_item(call, &documented.base);
	list(call, protocol);
}

static void on_allow_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__AllowProtocolRequest *input, Postern__V1__Rule_Closure closure,
	void *call)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(call);
}

static void on_list_rules(Postern__V1__Policy_Service *service,
	const Postern__V1__ListRulesRequest *input, Postern__V1__Rule_Closure closure, void *call)
{
	(void)service, (void)input, (void)closure;
	rpc_end(call);
}

static void on_add_principal(Postern__V1__Policy_Service *service,
	const Postern__V1__Principal *input, Postern__V1__AddPrincipalReply_Closure closure,
	void *call)
{
	Postern__V1__AddPrincipalReply reply = POSTERN__V1__ADD_PRINCIPAL_REPLY__INIT;

	(void)service, (void)closure;
	keep(&principal, &input->base);
	reply.principal = (Postern__V1__Principal *)principal;
	reply.token = (char *)"pst_filter_new";
	rpc_reply(call, &reply.base);
}

static void on_list_principals(Postern__V1__Policy_Service *service,
	const Postern__V1__ListPrincipalsRequest *input, Postern__V1__Principal_Closure closure,
	void *call)
{
	(void)service, (void)input, (void)closure;
	list(call, principal);
}

static void on_add(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayAddRequest *input, Postern__V1__GatewayAddReply_Closure closure,
	void *call)
{
	(void)service, (void)input, (void)closure;
	fail_unimplemented(call);
}

/* gw2 is behind, and gw3 has never joined. */
static void on_list(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayListRequest *input, Postern__V1__Gateway_Closure closure,
	void *call)
{
	static const char *const names[] = {"gw1", "gw2", "gw3"};
	static const uint64_t revisions[] = {14, 12, 0};

	(void)service, (void)input, (void)closure;
	for (size_t i = 0; i < 3; i++) {
		Postern__V1__Gateway gateway = POSTERN__V1__GATEWAY__INIT;

		gateway.name = (char *)names[i];
		gateway.mode = (char *)"enforce";
		gateway.revision = revisions[i];
		gateway.current_revision = 14;
		rpc_item(call, &gateway.base);
	}
	rpc_end(call);
}

static void on_show(Postern__V1__Gateways_Service *service,
	const Postern__V1__GatewayShowRequest *input, Postern__V1__Gateway_Closure closure,
	void *call)
{
	Postern__V1__Gateway gateway = POSTERN__V1__GATEWAY__INIT;

	(void)service, (void)closure;
	gateway.name = input->name;
	gateway.renewal = (char *)"in-place";
	gateway.revision = 12;
	gateway.current_revision = 14;
	rpc_reply(call, &gateway.base);
}

static Postern__V1__Policy_Service policy_service = POSTERN__V1__POLICY__INIT(on_);
static Postern__V1__Gateways_Service gateways_service = POSTERN__V1__GATEWAYS__INIT(on_);
ProtobufCService *const fake_policy_service = &policy_service.base;
ProtobufCService *const fake_gateways_service = &gateways_service.base;
