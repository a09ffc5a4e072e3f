#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/auth/token.h"
#include "server/fleet/gateway.h"
#include "server/service/service.h"

#define GATEWAYS_MAX 64
#define PROTOCOLS_MAX 10000 /* every request looks one up */

/* An addition under way: what will be in memory once it is on disk. */
struct addition {
	struct core *core;
	struct rpc_call *call;
	struct protocol_record protocol;
	struct rule_record rule;
	struct principal_record principal;
	char token[TOKEN_TEXT_SIZE];
};

static void fail(struct rpc_call *call, struct addition *addition, struct store_txn *txn,
	const struct error *err)
{
	store_txn_free(txn);
	free(addition);
	rpc_fail(call, err);
}

/* Both or neither; on failure the call has been failed. */
static bool begin(struct core *core, struct rpc_call *call, struct addition **ret_addition,
	struct store_txn **ret_txn)
{
	struct addition *addition = calloc(1, sizeof *addition);
	struct store_txn *txn = addition ? core_decision(core) : NULL;
	struct error err;
	if (!txn) {
		free(addition);
		(void)core_no_decision(&err);
		rpc_fail(call, &err);
		return false;
	}
	addition->core = core;
	addition->call = call;
	*ret_addition = addition;
	*ret_txn = txn;
	return true;
}

static const struct error memory = {.status = STATUS_RESOURCE_EXHAUSTED,
	.text = "it is on disk but the server is out of memory: restart it"};

/* ---- protocol definitions ---- */

struct protocol_wire {
	Postern__V1__Protocol message;
	char guid[ID_TEXT_SIZE];
	uint32_t ports[16];
};

static void protocol_to_wire(const struct protocol_record *record, struct protocol_wire *wire)
{
	postern__v1__protocol__init(&wire->message);
	id_format(&record->guid, wire->guid);
	wire->message.guid = wire->guid;
	wire->message.name = wire_text(record->name);
	wire->message.transport = (Postern__V1__Transport)record->transport;
	wire->message.owner = wire_text(record->owner);
	wire->message.primary_ports = wire->ports;
	wire->message.n_primary_ports = record->primary_port_count;
	for (size_t i = 0; i < record->primary_port_count; i++)
		wire->ports[i] = record->primary_ports[i];
}

static void protocol_added(void *arg, uint64_t sequence, const struct error *err)
{
	struct addition *addition = arg;
	struct protocol_wire wire;
	(void)sequence;
	if (err->status) {
		rpc_fail(addition->call, err);
	} else if (!policy_add_protocol(&addition->core->policy, &addition->protocol)) {
		rpc_fail(addition->call, &memory);
	} else {
		protocol_to_wire(&addition->protocol, &wire);
		rpc_reply(addition->call, &wire.message.base);
	}
	free(addition);
}

static enum status parse_protocol(
	const Postern__V1__Protocol *input, struct protocol_record *record, struct error *err)
{
	if (!name_is_valid(input->name))
		return error_field(
			err, "name", "name: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -", input->name);
	record->guid = id_new();
	if (input->guid[0] && !id_parse(input->guid, &record->guid))
		return error_field(err, "guid", "guid: \"%.60s\" is not a UUID", input->guid);
	if (input->transport != 6 && input->transport != 17)
		return error_field(err, "transport", "transport: tcp or udp");
	if (input->n_primary_ports > sizeof record->primary_ports / sizeof *record->primary_ports)
		return error_field(err, "primary_ports", "primary_ports: at most %zu",
			sizeof record->primary_ports / sizeof *record->primary_ports);
	for (size_t i = 0; i < input->n_primary_ports; i++) {
		if (input->primary_ports[i] == 0 || input->primary_ports[i] > UINT16_MAX)
			return error_field(err, "primary_ports", "primary_ports: %u is not a port",
				input->primary_ports[i]);
		record->primary_ports[record->primary_port_count++] =
			(uint16_t)input->primary_ports[i];
	}
	copy_text(record->name, sizeof record->name, input->name);
	record->transport = (uint8_t)input->transport;
	return STATUS_OK;
}

/* A filter may register its protocol at each of its starts: the same once more is no mistake. */
static bool is_same_protocol(
	const struct protocol_record *known, const struct protocol_record *asked, bool guid_given)
{
	return strcmp(known->name, asked->name) == 0 && known->transport == asked->transport &&
		(!guid_given || id_equal(&known->guid, &asked->guid)) &&
		known->primary_port_count == asked->primary_port_count &&
		memcmp(known->primary_ports, asked->primary_ports,
			known->primary_port_count * sizeof *known->primary_ports) == 0;
}

static enum status check_protocol(const struct core *core, const struct protocol_record *asked,
	bool guid_given, const struct protocol_record **ret_known, struct error *err)
{
	char guid[ID_TEXT_SIZE];
	id_format(&asked->guid, guid);
	const struct protocol_record *known = policy_find_protocol(&core->policy, asked->name);
	if (!known)
		known = policy_find_protocol(&core->policy, guid);
	*ret_known = known;
	if (known && !is_same_protocol(known, asked, guid_given))
		return error_set(err, STATUS_ALREADY_EXISTS,
			"name, guid: another protocol definition has this name or GUID: see "
			"`postern protocol list`");
	if (!known && core->policy.protocol_count >= PROTOCOLS_MAX)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"more than %d protocol definitions", PROTOCOLS_MAX);
	return STATUS_OK;
}

static void handle_register_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__Protocol *input, Postern__V1__Protocol_Closure closure, void *data)
{
	struct core *core = SERVICES_OF(service, policy)->core;
	struct addition *addition;
	struct store_txn *txn;
	struct error err;
	struct entry entry;
	(void)closure;
	if (!begin(core, data, &addition, &txn))
		return;
	const struct protocol_record *known = NULL;
	if (parse_protocol(input, &addition->protocol, &err) ||
		check_protocol(core, &addition->protocol, input->guid[0] != '\0', &known, &err)) {
		fail(data, addition, txn, &err);
		return;
	}
	if (known) {
		struct protocol_wire wire;
		protocol_to_wire(known, &wire);
		rpc_reply(data, &wire.message.base);
		store_txn_free(txn);
		free(addition);
		return;
	}
	core_entry(&entry, ENTRY_PROTOCOL_REGISTERED, rpc_call_principal(data)->name);
	copy_text(addition->protocol.owner, sizeof addition->protocol.owner,
		rpc_call_principal(data)->name);
	copy_text(entry.protocol, sizeof entry.protocol, addition->protocol.name);
	id_format(&addition->protocol.guid, entry.detail);
	store_txn_entry(txn, &entry);
	store_txn_put_protocol(txn, &addition->protocol);
	core_submit(core, txn, protocol_added, addition);
}

static void handle_list_protocols(Postern__V1__Policy_Service *service,
	const Postern__V1__ListProtocolsRequest *input, Postern__V1__Protocol_Closure closure,
	void *data)
{
	const struct policy *policy = &SERVICES_OF(service, policy)->core->policy;
	struct outbox *outbox = outbox_new(data);
	struct protocol_wire wire;
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	for (size_t i = 0; i < policy->protocol_count; i++) {
		protocol_to_wire(&policy->protocols[i], &wire);
		outbox_add(outbox, &wire.message.base);
	}
	outbox_send(outbox);
}

/* ---- rules ---- */

static void rule_to_wire(const struct rule_record *record, Postern__V1__Rule *message)
{
	postern__v1__rule__init(message);
	message->name = wire_text(record->name);
	message->type = (Postern__V1__RuleType)record->type;
	message->deny = record->deny;
	message->protocol = wire_text(record->protocol);
}

static void rule_added(void *arg, uint64_t sequence, const struct error *err)
{
	struct addition *addition = arg;
	Postern__V1__Rule message;
	(void)sequence;
	if (err->status) {
		rpc_fail(addition->call, err);
	} else if (!policy_add_rule(&addition->core->policy, &addition->rule)) {
		rpc_fail(addition->call, &memory);
	} else {
		rule_to_wire(&addition->rule, &message);
		rpc_reply(addition->call, &message.base);
		if (addition->rule.deny)
			grants_judge_again(addition->core);
	}
	free(addition);
}

static enum status parse_rule(const struct core *core,
	const Postern__V1__AllowProtocolRequest *input, struct rule_record *record,
	struct error *err)
{
	const struct protocol_record *protocol =
		policy_find_protocol(&core->policy, input->protocol);
	if (!protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not registered: register it first with `postern "
			"protocol register`",
			input->protocol);
	record->type = RULE_TYPE_PROTOCOL;
	record->deny = input->deny;
	copy_text(record->protocol, sizeof record->protocol, protocol->name);
	if (!copy_text(record->name, sizeof record->name, input->deny ? "deny " : "allow ") ||
		strlen(protocol->name) >= sizeof record->name - 6)
		return error_field(
			err, "protocol", "protocol: the name is too long for a rule's name");
	strncat(record->name, protocol->name, sizeof record->name - strlen(record->name) - 1);
	return STATUS_OK;
}

static void handle_allow_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__AllowProtocolRequest *input, Postern__V1__Rule_Closure closure,
	void *data)
{
	struct core *core = SERVICES_OF(service, policy)->core;
	struct addition *addition;
	struct store_txn *txn;
	struct error err;
	struct entry entry;
	(void)closure;
	if (!begin(core, data, &addition, &txn))
		return;
	if (parse_rule(core, input, &addition->rule, &err)) {
		fail(data, addition, txn, &err);
		return;
	}
	if (policy_find_rule(&core->policy, addition->rule.name)) {
		Postern__V1__Rule message; /* it is as it is to be */
		rule_to_wire(&addition->rule, &message);
		rpc_reply(data, &message.base);
		store_txn_free(txn);
		free(addition);
		return;
	}
	core_entry(&entry, ENTRY_RULE_ADDED, rpc_call_principal(data)->name);
	copy_text(entry.rule, sizeof entry.rule, addition->rule.name);
	copy_text(entry.protocol, sizeof entry.protocol, addition->rule.protocol);
	store_txn_entry(txn, &entry);
	store_txn_put_rule(txn, &addition->rule);
	core_submit(core, txn, rule_added, addition);
}

static void handle_list_rules(Postern__V1__Policy_Service *service,
	const Postern__V1__ListRulesRequest *input, Postern__V1__Rule_Closure closure, void *data)
{
	const struct policy *policy = &SERVICES_OF(service, policy)->core->policy;
	struct outbox *outbox = outbox_new(data);
	Postern__V1__Rule message;
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	for (size_t i = 0; i < policy->rule_count; i++) {
		rule_to_wire(&policy->rules[i], &message);
		outbox_add(outbox, &message.base);
	}
	outbox_send(outbox);
}

/* ---- principals ---- */

struct principal_wire {
	Postern__V1__Principal message;
	char text[RECORD_LIST_SIZE];
	char *gateways[GATEWAYS_MAX];
};

static void principal_to_wire(
	const struct principal_record *record, uint64_t live_grants, struct principal_wire *wire)
{
	postern__v1__principal__init(&wire->message);
	wire->message.name = wire_text(record->name);
	wire->message.role = wire_text(rpc_role_name((enum rpc_role)record->role));
	wire->message.max_grants = record->max_grants;
	wire->message.added_us = record->added_us;
	wire->message.live_grants = live_grants;
	wire->message.gateways = wire->gateways;
	copy_text(wire->text, sizeof wire->text, record->gateways);
	for (char *at = wire->text; *at && wire->message.n_gateways < GATEWAYS_MAX;) {
		wire->gateways[wire->message.n_gateways++] = at;
		at += strcspn(at, ",");
		if (*at)
			*at++ = '\0';
	}
}

static void principal_added(void *arg, uint64_t sequence, const struct error *err)
{
	struct addition *addition = arg;
	(void)sequence;
	if (err->status) {
		rpc_fail(addition->call, err);
	} else if (!principals_add(&addition->core->principals, &addition->principal)) {
		rpc_fail(addition->call, &memory);
	} else {
		Postern__V1__AddPrincipalReply reply = POSTERN__V1__ADD_PRINCIPAL_REPLY__INIT;
		struct principal_wire wire;
		principal_to_wire(&addition->principal, 0, &wire);
		reply.principal = &wire.message;
		reply.token = addition->token;
		rpc_reply(addition->call, &reply.base);
	}
	token_wipe(addition->token);
	free(addition);
}

static enum status parse_principal(const struct core *core, const Postern__V1__Principal *input,
	struct principal_record *record, struct error *err)
{
	enum rpc_role role;
	size_t used = 0;
	if (!name_is_valid(input->name))
		return error_field(err, "name",
			"name: \"%.70s\": use 1 to 63 of a-z 0-9 . _ -, beginning with a letter or "
			"digit",
			input->name);
	if (!rpc_role_parse(input->role, &role) || role == RPC_ROLE_AGENT)
		return error_field(err, "role",
			"role: \"%.20s\": filter, auditor or admin (agents come with `postern "
			"gateway add`)",
			input->role);
	if (principals_find(&core->principals, input->name))
		return error_set(err, STATUS_ALREADY_EXISTS, "name: \"%s\" is taken", input->name);
	for (size_t i = 0; i < input->n_gateways; i++) {
		if (!gateway_find(core, input->gateways[i]))
			return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
				"gateways: \"%.60s\" is unknown: add it first", input->gateways[i]);
		used += (size_t)snprintf(record->gateways + used, sizeof record->gateways - used,
			"%s%s", i ? "," : "", input->gateways[i]);
		if (used >= sizeof record->gateways || i >= GATEWAYS_MAX)
			return error_field(
				err, "gateways", "gateways: too many: at most %d", GATEWAYS_MAX);
	}
	copy_text(record->name, sizeof record->name, input->name);
	record->role = (uint8_t)role;
	record->max_grants = input->max_grants;
	return STATUS_OK;
}

static void handle_add_principal(Postern__V1__Policy_Service *service,
	const Postern__V1__Principal *input, Postern__V1__AddPrincipalReply_Closure closure,
	void *data)
{
	struct core *core = SERVICES_OF(service, policy)->core;
	struct addition *addition;
	struct store_txn *txn;
	struct error err;
	struct entry entry;
	(void)closure;
	if (!begin(core, data, &addition, &txn))
		return;
	if (parse_principal(core, input, &addition->principal, &err)) {
		fail(data, addition, txn, &err);
		return;
	}
	core_entry(&entry, ENTRY_PRINCIPAL_ADDED, rpc_call_principal(data)->name);
	snprintf(entry.detail, sizeof entry.detail, "%s %s", input->role, addition->principal.name);
	addition->principal.added_us = entry.time_us;
	token_new(input->role, addition->token);
	token_hash(addition->token, addition->principal.token_hash);
	store_txn_entry(txn, &entry);
	store_txn_put_principal(txn, &addition->principal);
	core_submit(core, txn, principal_added, addition);
}

static void handle_list_principals(Postern__V1__Policy_Service *service,
	const Postern__V1__ListPrincipalsRequest *input, Postern__V1__Principal_Closure closure,
	void *data)
{
	const struct principals *principals = &SERVICES_OF(service, policy)->core->principals;
	struct outbox *outbox = outbox_new(data);
	struct principal_wire wire;
	(void)closure;
	if (!outbox)
		return;
	for (const struct principal *principal = principals->first; principal;
		principal = principal->next) {
		principal_to_wire(&principal->record, principal->live_grants, &wire);
		if (input->role[0] == '\0' || strcmp(input->role, wire.message.role) == 0)
			outbox_add(outbox, &wire.message.base);
	}
	outbox_send(outbox);
}

void policy_service_init(struct services *services)
{
	Postern__V1__Policy_Service service = POSTERN__V1__POLICY__INIT(handle_);
	services->policy = service;
}
