#include "server/core/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

static bool match_grant(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct grant, by_id)->record.id.bytes, key, size) == 0;
}

static bool match_request(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct grant, by_request)->record.request_id.bytes, key,
		       size) == 0;
}

static bool match_session(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct session, by_id)->record.id.bytes, key, size) == 0;
}

/* ---- loading ---- */

static void load_gateway(void *arg, const struct gateway_record *record)
{
	(void)gateway_load(arg, record);
}

static void load_principal(void *arg, const struct principal_record *record)
{
	(void)principals_add(&((struct core *)arg)->principals, record);
}

static void load_protocol(void *arg, const struct protocol_record *record)
{
	(void)policy_add_protocol(&((struct core *)arg)->policy, record);
}

static void load_rule(void *arg, const struct rule_record *record)
{
	(void)policy_add_rule(&((struct core *)arg)->policy, record);
}

static void load_session(void *arg, const struct session_record *record)
{
	session_load(arg, record);
}

static void load_grant(void *arg, const struct grant_record *record)
{
	grant_load(arg, record);
}

static void load_flow(void *arg, const struct flow_record *record)
{
	flow_load(arg, record);
}

enum status core_init(struct core *core, struct loop *loop, const struct server_config *config,
	struct store *store, struct error *err)
{
	memset(core, 0, sizeof *core);
	core->loop = loop;
	core->config = config;
	core->store = store;
	policy_init(&core->policy);
	principals_init(&core->principals);
	gateways_init(core);
	flows_init(core);
	table_init(&core->grants, match_grant);
	table_init(&core->requests, match_request);
	table_init(&core->sessions, match_session);
	struct store_visitor visitor = {.arg = core,
		.gateway = load_gateway,
		.principal = load_principal,
		.protocol = load_protocol,
		.rule = load_rule,
		.session = load_session,
		.grant = load_grant,
		.flow = load_flow};
	return store_load(store, &visitor, err);
}

void core_fini(struct core *core)
{
	if (!core->loop)
		return;
	core->stopping = true;
	flows_fini(core);
	grants_fini(core);
	sessions_fini(core);
	gateways_fini(core);
	principals_fini(&core->principals);
	policy_fini(&core->policy);
}

void core_entry(struct entry *ret_entry, enum entry_kind kind, const char *actor)
{
	memset(ret_entry, 0, sizeof *ret_entry);
	ret_entry->time_us = clock_real_us();
	ret_entry->kind = kind;
	snprintf(ret_entry->actor, sizeof ret_entry->actor, "%s", actor);
}

struct store_txn *core_fact_txn(struct core *core)
{
	return store_txn_new_fact(core->store);
}

void core_fact(struct core *core, const struct entry *entry)
{
	struct store_txn *txn = core_fact_txn(core);
	if (!txn)
		return;
	store_txn_entry(txn, entry);
	store_submit(core->store, txn, NULL, NULL);
}

bool name_is_valid(const char *name)
{
	size_t length = strlen(name);
	if (length == 0 || length > 63 ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != length)
		return false;
	return strchr("._-", name[0]) == NULL;
}
