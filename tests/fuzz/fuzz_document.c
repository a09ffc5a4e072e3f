/* link: postern_server */
/* Packed policy documents, from an administrator: what is refused has a path and a reason; in
 * what is accepted every index is within its array, addresses and ports are in order, and no set is
 * within itself; it compiles, decides, and explains as it decides. */
#include "server/policy/policy.h"
#include "tests/fuzz/message.h"

/* ---- what it holds ---- */

static void check_refs(const struct document_refs *refs, size_t most)
{
	for (size_t i = 0; i < refs->count; i++)
		check(refs->items[i] < most);
}

static void check_ranges(const struct ranges *ranges)
{
	for (size_t i = 0; i < ranges->v4_count; i++) {
		check(ranges->v4[i].first <= ranges->v4[i].last);
		check(i == 0 || ranges->v4[i].first - ranges->v4[i - 1].last > 1);
		check(i == 0 || ranges->v4[i].first > ranges->v4[i - 1].last);
	}
	for (size_t i = 0; i < ranges->v6_count; i++) {
		check(ranges->v6[i].first <= ranges->v6[i].last);
		check(i == 0 || ranges->v6[i].first - ranges->v6[i - 1].last > 1);
		check(i == 0 || ranges->v6[i].first > ranges->v6[i - 1].last);
	}
}

static void check_ports(const struct ports *ports)
{
	for (size_t i = 0; i < ports->count; i++) {
		check(ports->items[i].first > 0 && ports->items[i].first <= ports->items[i].last);
		check(i == 0 || ports->items[i].first > ports->items[i - 1].last + 1);
	}
}

static void check_name(const char *name)
{
	check(name[0] != '\0' && strlen(name) < DOCUMENT_NAME_SIZE);
}

/* Ends only without cycles; bounded, since a set may be reached on many ways. */
static void walk(const struct document_set *sets, size_t set, size_t depth, size_t most, int *steps)
{
	check(depth <= most);
	for (size_t i = 0; i < sets[set].sets.count && --*steps > 0; i++)
		walk(sets, sets[set].sets.items[i], depth + 1, most, steps);
}

static void check_sets(const struct document_set *sets, size_t count, size_t feeds)
{
	for (size_t i = 0; i < count; i++) {
		int steps = 1000;
		check_name(sets[i].name);
		check_ranges(&sets[i].addresses);
		check_refs(&sets[i].sets, count);
		check_refs(&sets[i].feeds, feeds);
		for (size_t j = 0; j < sets[i].names.count; j++)
			check(sets[i].names.items[j][0] != '\0');
		walk(sets, i, 1, count, &steps);
	}
}

static void check_rule(const struct document *document, const struct document_rule *rule)
{
	check_name(rule->name);
	check_refs(&rule->clients.sets, document->client_set_count);
	check_refs(&rule->clients_except.sets, document->client_set_count);
	check_refs(&rule->destinations.sets, document->destination_set_count);
	check_refs(&rule->destinations_except.sets, document->destination_set_count);
	check_refs(&rule->users, document->user_set_count);
	check_ranges(&rule->clients.addresses);
	check_ranges(&rule->destinations.addresses);
	check_ports(&rule->ports);
	check(rule->schedule == -1 || (size_t)rule->schedule < document->schedule_count);
}

static void check_document(const struct document *document)
{
	check_sets(document->client_sets, document->client_set_count, document->feed_count);
	check_sets(
		document->destination_sets, document->destination_set_count, document->feed_count);
	for (size_t i = 0; i < document->user_set_count; i++)
		check_refs(&document->user_sets[i].sets, document->user_set_count);
	check(document->protocol_rule_count <= document->rule_count);
	for (size_t i = 0; i < document->rule_count; i++) {
		check_rule(document, &document->rules[i]);
		check((document->rules[i].type == RULE_TYPE_PROTOCOL) ==
			(i < document->protocol_rule_count));
	}
	for (size_t i = 0; i < document->schedule_count; i++) {
		const struct schedule *schedule = &document->schedules[i].schedule;
		(void)schedule_is_active(schedule, 1784000000000000);
		check(schedule_next_change(schedule, 1784000000000000) > 1784000000000000);
	}
	for (size_t i = 0; i < document->feed_count; i++)
		check(strncmp(document->feeds[i].url, "https://", 8) == 0 &&
			document->feeds[i].max_shrink >= 1);
	for (size_t i = 0; i < document->protocol_count; i++)
		check(!id_is_zero(&document->protocols[i].record.guid));
}

/* ---- what it decides ---- */

struct seen {
	bool allow[3], deny[3];
};

static void on_rule(void *arg, const struct document_rule *rule, bool matched,
	const struct policy_condition *conditions, size_t count)
{
	struct seen *seen = arg;
	(void)conditions;
	check(count <= POLICY_CONDITIONS_MAX);
	if (!matched || rule->disabled || rule->staged)
		return;
	seen->deny[rule->type] |= rule->deny;
	seen->allow[rule->type] |= !rule->deny;
}

static void ask(const struct policy *policy, const char *client, const char *remote)
{
	struct addr to;
	struct policy_question question = {.at_us = INT64_C(1795546800000000),
		.gateway = "gw1",
		.protocol = "ftp",
		.user = "alice",
		.remotes = &to,
		.remote_count = 1,
		.port_first = 1024,
		.port_last = 1030};
	struct policy_answer answer;
	struct seen seen = {0};
	check(addr_parse(client, &question.client) && addr_parse(remote, &to));
	policy_decide(policy, &question, &answer);
	(void)policy_explain(policy, &question, 0, SIZE_MAX, true, on_rule, &seen);
	bool allowed = !seen.deny[RULE_TYPE_PROTOCOL] && seen.allow[RULE_TYPE_PROTOCOL] &&
		!seen.deny[RULE_TYPE_SITE_AND_CONTENT] && seen.allow[RULE_TYPE_SITE_AND_CONTENT];
	check(allowed == (answer.verdict == POLICY_ALLOWED));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct policy_gateway gateways[] = {{"gw1", "branch,eu"}};
	struct policy_input input = {.gateways = gateways, .gateway_count = 1};
	struct policy *policy;
	struct error err = {0};
	enum status status = document_unpack(data, size, &input.document, &err);
	if (status) {
		check_refusal(status, &err);
		return 0;
	}
	check_document(input.document);
	if (policy_compile(&input, &policy, &err) != STATUS_OK) {
		document_free(input.document);
		return 0;
	}
	ask(policy, "10.1.2.3", "198.51.100.7");
	ask(policy, "fd77:1::2", "fd77:2::2");
	check(policy_next_change(policy, INT64_C(1795546800000000)) > INT64_C(1795546800000000));
	policy_release(policy);
	return 0;
}
