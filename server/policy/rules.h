/* Protocol definitions and rules, and the decision: pure. ISA Server 2000: within a rule type,
 * allowed if some allow rule matches and no deny rule matches, in no order; protocol rules first,
 * then site-and-content rules; both must allow. */
#ifndef POSTERN_SERVER_POLICY_RULES_H
#define POSTERN_SERVER_POLICY_RULES_H

#include "common/error.h"
#include "server/store/record.h"

struct rules {
	struct protocol_record *protocols;
	size_t protocol_count, protocol_capacity;
	struct rule_record *rules;
	size_t rule_count, rule_capacity;
};

enum rules_verdict {
	RULES_ALLOWED,
	RULES_DENIED_BY_PROTOCOL_RULES,
	RULES_DENIED_BY_SITE_AND_CONTENT_RULES
};


void rules_init(struct rules *policy);
void rules_fini(struct rules *policy);
/* False: out of memory. */
bool rules_add_protocol(struct rules *policy, const struct protocol_record *protocol);
bool rules_add_rule(struct rules *policy, const struct rule_record *rule);
/* By name, or by GUID text. NULL when unknown. */
const struct protocol_record *rules_find_protocol(
	const struct rules *policy, const char *name_or_guid);
/* May this filter use the definition? Its own, and those that are shared. */
bool protocol_is_open_to(const struct protocol_record *protocol, const char *filter);
/* The refusal of one that is not. */
enum status protocol_not_shared(const struct protocol_record *protocol, struct error *err);
const struct rule_record *rules_find_rule(const struct rules *policy, const char *name);

/* ret_rule: the rule that decided: the deny rule that matched, or NULL when no rule allows; when
 * allowed, the protocol rule that says so. */
enum rules_verdict rules_decide(const struct rules *policy, const struct protocol_record *protocol,
	const struct rule_record **ret_rule);

#endif
