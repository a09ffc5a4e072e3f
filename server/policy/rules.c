#include "server/policy/rules.h"

#include <stdlib.h>
#include <string.h>

void rules_init(struct rules *policy)
{
	memset(policy, 0, sizeof *policy);
}

void rules_fini(struct rules *policy)
{
	free(policy->protocols);
	free(policy->rules);
	rules_init(policy);
}

/* Room for one more of `size` bytes in a growing array. */
static bool make_room(void **array, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return true;
	size_t more = *capacity ? *capacity * 2 : 16;
	void *grown = realloc(*array, more * size);
	if (!grown)
		return false;
	*array = grown;
	*capacity = more;
	return true;
}

bool rules_add_protocol(struct rules *policy, const struct protocol_record *protocol)
{
	void *array = policy->protocols;
	if (!make_room(&array, policy->protocol_count, &policy->protocol_capacity,
		    sizeof *policy->protocols))
		return false;
	policy->protocols = array;
	policy->protocols[policy->protocol_count++] = *protocol;
	return true;
}

bool rules_add_rule(struct rules *policy, const struct rule_record *rule)
{
	void *array = policy->rules;
	if (!make_room(&array, policy->rule_count, &policy->rule_capacity, sizeof *policy->rules))
		return false;
	policy->rules = array;
	policy->rules[policy->rule_count++] = *rule;
	return true;
}

const struct protocol_record *rules_find_protocol(
	const struct rules *policy, const char *name_or_guid)
{
	struct id guid;
	bool is_guid = id_parse(name_or_guid, &guid);
	for (size_t i = 0; i < policy->protocol_count; i++) {
		const struct protocol_record *protocol = &policy->protocols[i];
		if (strcmp(protocol->name, name_or_guid) == 0 ||
			(is_guid && id_equal(&protocol->guid, &guid)))
			return protocol;
	}
	return NULL;
}

bool protocol_is_open_to(const struct protocol_record *protocol, const char *filter)
{
	return protocol->shared || strcmp(protocol->owner, filter) == 0;
}

enum status protocol_not_shared(const struct protocol_record *protocol, struct error *err)
{
	return error_field(err, "protocol",
		"protocol: %s belongs to filter %s, which does not share it: register one of your "
		"own",
		protocol->name, protocol->owner);
}

const struct rule_record *rules_find_rule(const struct rules *policy, const char *name)
{
	for (size_t i = 0; i < policy->rule_count; i++)
		if (strcmp(policy->rules[i].name, name) == 0)
			return &policy->rules[i];
	return NULL;
}

static bool matches(
	const struct rule_record *rule, int type, const struct protocol_record *protocol)
{
	return rule->type == type &&
		(rule->protocol[0] == '\0' || strcmp(rule->protocol, protocol->name) == 0);
}

/* Some allow matches and no deny does; ret_rule: the deny, else the first allow, else NULL. */
static bool allowed(const struct rules *policy, int type, const struct protocol_record *protocol,
	const struct rule_record **ret_rule)
{
	const struct rule_record *allow = NULL;
	for (size_t i = 0; i < policy->rule_count; i++) {
		const struct rule_record *rule = &policy->rules[i];
		if (!matches(rule, type, protocol))
			continue;
		if (rule->deny) {
			*ret_rule = rule;
			return false;
		}
		if (!allow)
			allow = rule;
	}
	*ret_rule = allow;
	return allow != NULL;
}

enum rules_verdict rules_decide(const struct rules *policy, const struct protocol_record *protocol,
	const struct rule_record **ret_rule)
{
	const struct rule_record *site_rule;
	if (!allowed(policy, RULE_TYPE_PROTOCOL, protocol, ret_rule))
		return RULES_DENIED_BY_PROTOCOL_RULES;
	if (allowed(policy, RULE_TYPE_SITE_AND_CONTENT, protocol, &site_rule))
		return RULES_ALLOWED;
	*ret_rule = site_rule;
	return RULES_DENIED_BY_SITE_AND_CONTENT_RULES;
}
