/* The decision of ISA Server 2000: some allow matches and no deny does, per rule type, protocol
 * rules first. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "server/policy/rules.h"

static struct rules policy;
static struct protocol_record ftp = {.guid = {{1}}, .name = "ftp", .transport = 6};

static void add(const char *name, int type, bool deny, const char *protocol)
{
	struct rule_record rule = {.type = (uint8_t)type, .deny = deny};
	snprintf(rule.name, sizeof rule.name, "%s", name);
	snprintf(rule.protocol, sizeof rule.protocol, "%s", protocol);
	cr_assert(rules_add_rule(&policy, &rule));
}

static void setup(void)
{
	rules_init(&policy);
	add("all sites", RULE_TYPE_SITE_AND_CONTENT, false, "");
}

static void teardown(void)
{
	rules_fini(&policy);
}

TestSuite(policy, .init = setup, .fini = teardown);

Test(policy, a_new_server_denies_everything_by_protocol_rules)
{
	const struct rule_record *rule;
	cr_expect_eq(rules_decide(&policy, &ftp, &rule), RULES_DENIED_BY_PROTOCOL_RULES);
	cr_expect_null(rule, "no rule allows");
}

Test(policy, both_types_must_allow)
{
	const struct rule_record *rule;
	add("allow ftp", RULE_TYPE_PROTOCOL, false, "ftp");
	cr_expect_eq(rules_decide(&policy, &ftp, &rule), RULES_ALLOWED);
	add("no sites", RULE_TYPE_SITE_AND_CONTENT, true, "");
	cr_expect_eq(rules_decide(&policy, &ftp, &rule), RULES_DENIED_BY_SITE_AND_CONTENT_RULES);
	cr_assert_not_null(rule);
	cr_expect_str_eq(rule->name, "no sites");
}

Test(policy, deny_wins_in_any_order)
{
	const struct rule_record *rule;
	add("deny ftp", RULE_TYPE_PROTOCOL, true, "ftp");
	add("allow all", RULE_TYPE_PROTOCOL, false, "");
	cr_expect_eq(rules_decide(&policy, &ftp, &rule), RULES_DENIED_BY_PROTOCOL_RULES);
	cr_assert_not_null(rule);
	cr_expect_str_eq(rule->name, "deny ftp");
}

Test(policy, a_rule_for_another_protocol_does_not_match)
{
	const struct rule_record *rule;
	add("allow tftp", RULE_TYPE_PROTOCOL, false, "tftp");
	cr_expect_eq(rules_decide(&policy, &ftp, &rule), RULES_DENIED_BY_PROTOCOL_RULES);
}
