/* Protocol definitions and rules, and the decision: pure. ISA Server 2000: within a rule type,
 * allowed if some allow rule matches and no deny rule matches, in no order; protocol rules first,
 * then site-and-content rules; both must allow. */
#ifndef POSTERN_SERVER_POLICY_POLICY_H
#define POSTERN_SERVER_POLICY_POLICY_H

#include "common/error.h"
#include "server/store/record.h"

struct policy {
	struct protocol_record *protocols;
	size_t protocol_count, protocol_capacity;
	struct rule_record *rules;
	size_t rule_count, rule_capacity;
};

enum policy_verdict {
	POLICY_ALLOWED,
	POLICY_DENIED_BY_PROTOCOL_RULES,
	POLICY_DENIED_BY_SITE_AND_CONTENT_RULES
};

enum { RULE_TYPE_PROTOCOL = 1, RULE_TYPE_SITE_AND_CONTENT = 2 }; /* RuleType of policy.proto */

void policy_init(struct policy *policy);
void policy_fini(struct policy *policy);
/* False: out of memory. */
bool policy_add_protocol(struct policy *policy, const struct protocol_record *protocol);
bool policy_add_rule(struct policy *policy, const struct rule_record *rule);
/* By name, or by GUID text. NULL when unknown. */
const struct protocol_record *policy_find_protocol(
	const struct policy *policy, const char *name_or_guid);
/* May this filter use the definition? Its own, and those that are shared. */
bool protocol_is_open_to(const struct protocol_record *protocol, const char *filter);
/* The refusal of one that is not. */
enum status protocol_not_shared(const struct protocol_record *protocol, struct error *err);
const struct rule_record *policy_find_rule(const struct policy *policy, const char *name);

/* ret_rule: the rule that decided: the deny rule that matched, or NULL when no rule allows; when
 * allowed, the protocol rule that says so. */
enum policy_verdict policy_decide(const struct policy *policy,
	const struct protocol_record *protocol, const struct rule_record **ret_rule);

#endif
