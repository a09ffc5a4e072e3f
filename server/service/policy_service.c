#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/auth/token.h"
#include "server/core/revision.h"
#include "server/fleet/gateway.h"
#include "server/policy/bounds.h"
#include "server/service/principal_wire.h"
#include "server/service/protocol_wire.h"
#include "server/service/service.h"

#define PROTOCOLS_MAX 10000 /* every request looks one up */

/* An addition under way: what will be in memory once it is on disk. */
struct addition {
	struct core *core;
	struct rpc_call *call;
	struct protocol_record protocol;
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

static void protocol_added(void *arg, uint64_t sequence, const struct error *err)
{
	struct addition *addition = arg;
	struct protocol_wire wire;
	(void)sequence;
	if (err->status) {
		rpc_fail(addition->call, err);
	} else if (!protocols_add(&addition->core->protocols, &addition->protocol)) {
		rpc_fail(addition->call, &memory);
	} else {
		protocol_to_wire(&addition->protocol, &wire);
		rpc_reply(addition->call, &wire.message.base);
	}
	free(addition);
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

static bool has_same_bounds(
	const struct protocol_record *known, const struct protocol_record *asked)
{
	return known->shared == asked->shared && known->remote_scope == asked->remote_scope &&
		known->low_ports == asked->low_ports && known->max_ports == asked->max_ports;
}

/* Its owner must mean the same; another filter gets one that it may use as it stands, with the
 * bounds that its owner set. */
static enum status check_known(const struct protocol_record *known,
	const struct protocol_record *asked, bool guid_given, struct error *err)
{
	bool own = strcmp(known->owner, asked->owner) == 0;
	if (!own && !protocol_is_open_to(known, asked->owner))
		return error_set(err, STATUS_ALREADY_EXISTS,
			"name, guid: %s is a protocol definition of filter %s, which does not "
			"share it: choose another name and GUID",
			known->name, known->owner);
	if (!is_same_protocol(known, asked, guid_given) || (own && !has_same_bounds(known, asked)))
		return error_set(err, STATUS_ALREADY_EXISTS,
			"name, guid: another protocol definition (%s, of %s) has this name or "
			"GUID: see `postern protocol list`",
			known->name, known->owner);
	return STATUS_OK;
}

/* The policy document's takes the place of what a filter would register, and its bounds hold. */
static enum status check_document(const struct protocol_record *known,
	const struct protocol_record *asked, bool guid_given, struct error *err)
{
	if (strcmp(known->name, asked->name) == 0 && known->transport == asked->transport &&
		(!guid_given || id_equal(&known->guid, &asked->guid)))
		return STATUS_OK;
	return error_set(err, STATUS_ALREADY_EXISTS,
		"name, guid: the policy document defines protocol %s with this name or GUID and "
		"another name, GUID or transport: see `postern protocol list`",
		known->name);
}

static enum status check_protocol(const struct core *core, const struct protocol_record *asked,
	bool guid_given, const struct protocol_record **ret_known, struct error *err)
{
	char guid[ID_TEXT_SIZE];
	id_format(&asked->guid, guid);
	const struct protocol_record *known = protocols_find(&core->protocols, asked->name);
	if (!known)
		known = protocols_find(&core->protocols, guid);
	if (known) {
		*ret_known = core_find_protocol(core, known->name);
		return check_known(known, asked, guid_given, err);
	}
	known = policy_find_protocol(core->policy, asked->name);
	if (!known)
		known = policy_find_protocol(core->policy, guid);
	*ret_known = known;
	if (known)
		return check_document(known, asked, guid_given, err);
	if (core->protocols.count >= PROTOCOLS_MAX)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"more than %d protocol definitions", PROTOCOLS_MAX);
	return STATUS_OK;
}

/* GUID and bounds, for the journal. */
static void describe_protocol(const struct protocol_record *record, char *text, size_t size)
{
	char guid[ID_TEXT_SIZE];
	id_format(&record->guid, guid);
	snprintf(text, size, "%s%s, remotes %s%s, ranges up to %u", guid,
		record->shared ? ", shared" : "",
		remote_scope_name((enum remote_scope)record->remote_scope),
		record->low_ports ? ", low ports" : "",
		record->max_ports > 1 ? (unsigned)record->max_ports : 1U);
}

static void handle_register_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__Protocol *input, Postern__V1__Protocol_Closure closure, void *data)
{
	struct core *core = SERVICES_OF(service, policy)->core;
	const struct protocol_record *known = NULL;
	struct addition *addition;
	struct store_txn *txn;
	struct error err;
	struct entry entry;
	(void)closure;
	if (!begin(core, data, &addition, &txn))
		return;
	struct protocol_record *record = &addition->protocol;
	copy_text(record->owner, sizeof record->owner, rpc_call_principal(data)->name);
	enum status status = protocol_from_wire(input, record, &err);
	record->shared |= is_admin(data);
	if (!status)
		status = check_protocol(core, record, input->guid[0] != '\0', &known, &err);
	if (status) {
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
	core_entry(&entry, ENTRY_PROTOCOL_REGISTERED, record->owner);
	copy_text(entry.protocol, sizeof entry.protocol, record->name);
	describe_protocol(record, entry.detail, sizeof entry.detail);
	store_txn_entry(txn, &entry);
	store_txn_put_protocol(txn, record);
	core_submit(core, txn, protocol_added, addition);
}

static void handle_list_protocols(Postern__V1__Policy_Service *service,
	const Postern__V1__ListProtocolsRequest *input, Postern__V1__Protocol_Closure closure,
	void *data)
{
	const struct core *core = SERVICES_OF(service, policy)->core;
	const struct document *document = policy_document(core->policy);
	struct outbox *outbox = outbox_new(data);
	struct protocol_wire wire;
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	for (size_t i = 0; i < document->protocol_count; i++) {
		protocol_to_wire(&document->protocols[i].record, &wire);
		wire.message.revision = policy_revision(core->policy);
		outbox_add(outbox, &wire.message.base);
	}
	for (const struct registered *registered = core->protocols.first; registered;
		registered = registered->next) {
		if (policy_find_protocol(core->policy, registered->record.name))
			continue;
		protocol_to_wire(&registered->record, &wire);
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

struct allowing {
	struct core *core;
	struct rpc_call *call;
	struct rule_record rule;
};

static void on_allow_end(void *arg, enum status why)
{
	struct allowing *allowing = arg;
	(void)why;
	revision_forget(allowing->core, allowing);
	free(allowing);
}

static void on_allowed(void *arg, const struct revision_result *result, const struct error *err)
{
	struct allowing *allowing = arg;
	Postern__V1__Rule message;
	rpc_on_end(allowing->call, NULL, NULL);
	if (result) {
		rule_to_wire(&allowing->rule, &message);
		rpc_reply(allowing->call, &message.base);
	} else {
		rpc_fail(allowing->call, err);
	}
	free(allowing);
}

static enum status parse_rule(const struct core *core,
	const Postern__V1__AllowProtocolRequest *input, struct rule_record *record,
	struct error *err)
{
	const struct protocol_record *protocol = core_find_protocol(core, input->protocol);
	if (!protocol)
		return error_field(err, "protocol",
			"protocol: \"%.60s\" is not registered: register it first with `postern "
			"protocol register`",
			input->protocol);
	record->type = RULE_TYPE_PROTOCOL;
	record->deny = input->deny;
	copy_text(record->protocol, sizeof record->protocol, protocol->name);
	int length = snprintf(record->name, sizeof record->name, "%s%s",
		input->deny ? "deny " : "allow ", protocol->name);
	if ((size_t)length >= sizeof record->name)
		return error_field(
			err, "protocol", "protocol: the name is too long for a rule's name");
	return STATUS_OK;
}

static const struct document_rule *find_rule(const struct core *core, const char *name)
{
	const struct document *document = policy_document(core->policy);
	for (size_t i = 0; i < document->protocol_rule_count; i++)
		if (strcmp(document->rules[i].name, name) == 0)
			return &document->rules[i];
	return NULL;
}

/* Says nothing but what AllowProtocol says. */
static bool is_plain(const struct document_rule *rule, const struct rule_record *wanted)
{
	return rule->deny == wanted->deny && !rule->disabled && !rule->staged &&
		rule->expires_us == INT64_MAX && rule->schedule < 0 && rule->protocols.count == 1 &&
		strcmp(rule->protocols.items[0], wanted->protocol) == 0 &&
		rule->clients.texts.count == 0 && rule->clients_except.texts.count == 0 &&
		rule->users.count == 0 && rule->gateways.count == 0 &&
		rule->gateway_labels.count == 0;
}

/* True: the call was answered. */
static bool rule_is_there(
	struct core *core, struct rpc_call *call, const struct rule_record *wanted)
{
	const struct document_rule *rule = find_rule(core, wanted->name);
	Postern__V1__Rule message;
	struct error err;
	if (!rule)
		return false;
	if (is_plain(rule, wanted)) {
		rule_to_wire(wanted, &message);
		rpc_reply(call, &message.base);
		return true;
	}
	error_set(&err, STATUS_ALREADY_EXISTS,
		"protocol: the policy document has a rule \"%s\" that says something else: change "
		"the document, with `postern policy apply`",
		wanted->name);
	rpc_fail(call, &err);
	return true;
}

static void handle_allow_protocol(Postern__V1__Policy_Service *service,
	const Postern__V1__AllowProtocolRequest *input, Postern__V1__Rule_Closure closure,
	void *data)
{
	struct core *core = SERVICES_OF(service, policy)->core;
	struct revision_ask ask = {0};
	struct rule_record rule = {0};
	struct allowing *allowing;
	struct error err;
	(void)closure;
	if (parse_rule(core, input, &rule, &err)) {
		rpc_fail(data, &err);
		return;
	}
	if (rule_is_there(core, data, &rule) ||
		!(allowing = call_state_new(data, sizeof *allowing, on_allow_end)))
		return;
	*allowing = (struct allowing){core, data, rule};
	ask.allow = &rule;
	copy_text(ask.author, sizeof ask.author, rpc_call_principal(data)->name);
	copy_text(ask.message, sizeof ask.message, rule.name);
	revision_apply(core, &ask, on_allowed, allowing);
}

/* Of several protocols the first ones that fit; what else a rule says is the document's to show. */
static void list_rule(const struct document_rule *rule, struct outbox *outbox)
{
	char protocols[RECORD_LIST_SIZE] = "";
	Postern__V1__Rule message = POSTERN__V1__RULE__INIT;
	size_t used = 0;
	for (size_t i = 0; i < rule->protocols.count && used < sizeof protocols; i++)
		used += (size_t)snprintf(protocols + used, sizeof protocols - used, "%s%s",
			i ? "," : "", rule->protocols.items[i]);
	message.name = wire_text(rule->name);
	message.type = (Postern__V1__RuleType)rule->type;
	message.deny = rule->deny;
	message.protocol = protocols;
	outbox_add(outbox, &message.base);
}

static void handle_list_rules(Postern__V1__Policy_Service *service,
	const Postern__V1__ListRulesRequest *input, Postern__V1__Rule_Closure closure, void *data)
{
	const struct document *document =
		policy_document(SERVICES_OF(service, policy)->core->policy);
	struct outbox *outbox = outbox_new(data);
	(void)input;
	(void)closure;
	if (!outbox)
		return;
	for (size_t i = 0; i < document->rule_count; i++)
		list_rule(&document->rules[i], outbox);
	outbox_send(outbox);
}

/* ---- principals ---- */

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
	if (principal_from_wire(core, input, &addition->principal, &err)) {
		fail(data, addition, txn, &err);
		return;
	}
	core_entry(&entry, ENTRY_PRINCIPAL_ADDED, rpc_call_principal(data)->name);
	principal_describe(&addition->principal, entry.detail, sizeof entry.detail);
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
