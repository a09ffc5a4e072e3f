/* Why, rule by rule: with match.c, which decides. */
#include <stdio.h>
#include <string.h>

#include "server/policy/compiled.h"

static const char *const fields[CONDITIONS] = {
	[CONDITION_PROTOCOLS] = "protocols",
	[CONDITION_PROTOCOLS_EXCEPT] = "protocols_except",
	[CONDITION_DESTINATIONS] = "destinations",
	[CONDITION_DESTINATIONS_EXCEPT] = "destinations_except",
	[CONDITION_PORTS] = "ports",
	[CONDITION_CLIENTS] = "clients",
	[CONDITION_CLIENTS_EXCEPT] = "clients_except",
	[CONDITION_USERS] = "users",
	[CONDITION_GATEWAYS] = "gateways",
	[CONDITION_SCHEDULE] = "schedule",
	[CONDITION_EXPIRES] = "expires",
};

/* "staff, 10.0.0.0/8 and 3 more" */
static void list_texts(const struct document_texts *texts, char *text, size_t size)
{
	size_t used = 0;
	text[0] = '\0';
	for (size_t i = 0; i < texts->count; i++) {
		size_t left = texts->count - i;
		int length = used + strlen(texts->items[i]) + 20 > size
			? snprintf(text + used, size - used, "%s%zu more", i ? " and " : "", left)
			: snprintf(
				  text + used, size - used, "%s%s", i ? ", " : "", texts->items[i]);
		if (length < 0 || used + (size_t)length >= size ||
			used + strlen(texts->items[i]) + 20 > size)
			return;
		used += (size_t)length;
	}
}

static void tell_addresses(const struct addr *addr, bool has, const struct document_addresses *of,
	char *detail, size_t size)
{
	char what[ADDR_TEXT_SIZE] = "anybody", list[100];
	if (addr)
		addr_format(addr, what);
	list_texts(&of->texts, list, sizeof list);
	snprintf(detail, size, "%s is %sin %s", what, has ? "" : "not ", list);
}

static void tell_names(
	const char *what, bool has, const struct document_texts *of, char *detail, size_t size)
{
	char list[100];
	list_texts(of, list, sizeof list);
	snprintf(detail, size, "%.40s is %sin %s", what, has ? "" : "not ", list);
}

static void tell_users(const struct policy *policy, const struct document_rule *rule,
	const char *user, bool has, char *detail, size_t size)
{
	const struct document *document = policy->document;
	if (!user[0]) {
		snprintf(detail, size, "the session has no user");
		return;
	}
	snprintf(detail, size, "%.40s is %sin %.60s%s", user, has ? "" : "not ",
		document->user_sets[rule->users.items[0]].name,
		rule->users.count > 1 ? ", ..." : "");
}

static void tell_gateways(
	const struct document_rule *rule, const char *gateway, bool has, char *detail, size_t size)
{
	char names[50], labels[50];
	list_texts(&rule->gateways, names, sizeof names);
	list_texts(&rule->gateway_labels, labels, sizeof labels);
	snprintf(detail, size, "%.40s is %s%s%s%s%s", gateway[0] ? gateway : "the gateway",
		has ? "" : "not ", names, names[0] && labels[0] ? ", " : "",
		labels[0] ? "labelled " : "", labels);
}

static void tell_ports(const struct document_rule *rule, const struct policy_question *question,
	bool matched, char *detail, size_t size)
{
	const char *verb = rule->deny ? "touches" : "is within";
	if (question->port_first == question->port_last)
		snprintf(detail, size, "port %u %s the rule's", question->port_first,
			matched ? "is one of" : "is none of");
	else
		snprintf(detail, size, "%u-%u %s%s the rule's ports", question->port_first,
			question->port_last, matched ? "" : "not: ", verb);
}

static void tell(const struct policy *policy, const struct document_rule *rule,
	enum condition condition, const struct asked *asked, bool matched, char *detail,
	size_t size)
{
	const struct policy_question *question = asked->question;
	switch (condition) {
	case CONDITION_PROTOCOLS:
		tell_names(question->protocol, matched, &rule->protocols, detail, size);
		return;
	case CONDITION_PROTOCOLS_EXCEPT:
		tell_names(question->protocol, !matched, &rule->protocols_except, detail, size);
		return;
	case CONDITION_DESTINATIONS:
		tell_addresses(asked->remote, matched, &rule->destinations, detail, size);
		return;
	case CONDITION_DESTINATIONS_EXCEPT:
		tell_addresses(asked->remote, !matched, &rule->destinations_except, detail, size);
		return;
	case CONDITION_PORTS:
		tell_ports(rule, question, matched, detail, size);
		return;
	case CONDITION_CLIENTS:
		tell_addresses(&question->client, matched, &rule->clients, detail, size);
		return;
	case CONDITION_CLIENTS_EXCEPT:
		tell_addresses(&question->client, !matched, &rule->clients_except, detail, size);
		return;
	case CONDITION_USERS:
		tell_users(policy, rule, question->user, matched, detail, size);
		return;
	case CONDITION_GATEWAYS:
		tell_gateways(rule, question->gateway, matched, detail, size);
		return;
	case CONDITION_SCHEDULE:
		snprintf(detail, size, "%s is %sactive",
			policy->document->schedules[rule->schedule].name, matched ? "" : "not ");
		return;
	case CONDITION_EXPIRES:
		snprintf(detail, size, "%s", matched ? "not yet" : "it has expired");
		return;
	case CONDITIONS:
		break;
	}
	snprintf(detail, size, "%s", "");
}

/* How many conditions the rule misses by. */
static size_t evaluate(const struct policy *policy, uint32_t index, const struct asked *asked,
	struct policy_condition *conditions, size_t *ret_count)
{
	size_t missed = 0;
	*ret_count = 0;
	for (enum condition i = 0; i < CONDITIONS; i++) {
		if (!condition_is_stated(policy, index, i))
			continue;
		struct policy_condition *condition = &conditions[(*ret_count)++];
		condition->field = fields[i];
		condition->matched = condition_matches(policy, index, i, asked);
		tell(policy, &policy->document->rules[index], i, asked, condition->matched,
			condition->detail, sizeof condition->detail);
		missed += !condition->matched;
	}
	return missed;
}

/* With several remotes: the first one that is denied, else the first. */
static const struct addr *telling_remote(
	const struct policy *policy, const struct policy_question *question)
{
	struct policy_question one = *question;
	struct policy_answer answer;
	for (size_t i = 0; i < question->remote_count; i++) {
		one.remotes = &question->remotes[i];
		one.remote_count = 1;
		policy_decide(policy, &one, &answer);
		if (answer.verdict != POLICY_ALLOWED)
			return &question->remotes[i];
	}
	return question->remote_count ? &question->remotes[0] : NULL;
}

size_t policy_explain(const struct policy *policy, const struct policy_question *question,
	size_t from, size_t max, bool all, policy_explain_cb cb, void *arg)
{
	const struct document *document = policy->document;
	struct policy_condition conditions[CONDITIONS];
	struct asked asked;
	size_t count;
	asked_init(policy, question, &asked);
	asked_set_remote(policy, telling_remote(policy, question), &asked);
	for (; from < document->rule_count && max > 0; from++, max--) {
		const struct document_rule *rule = &document->rules[from];
		size_t missed = evaluate(policy, (uint32_t)from, &asked, conditions, &count);
		if (all || missed <= 1)
			cb(arg, rule, missed == 0, conditions, count);
	}
	return from;
}
