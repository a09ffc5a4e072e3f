/* The decision against a reference that follows the text literally, on random policies and
 * questions. SEED= and COUNT= (policies) choose others. */
#include <stdio.h>

#include "tests/unit/server/policy_fixture.h"

static uint64_t state;

static uint32_t roll(uint32_t most)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(state >> 33) % most;
}

static bool chance(uint32_t percent)
{
	return roll(100) < percent;
}

/* ---- random documents: few values, so that they meet ---- */

static struct arena {
	char texts[4096][48];
	size_t count;
} arena;

static char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *format, ...)
{
	va_list args;
	char *to = arena.texts[arena.count++];
	cr_assert(arena.count < 4096);
	va_start(args, format);
	vsnprintf(to, sizeof arena.texts[0], format, args);
	va_end(args);
	return to;
}

static char *random_range(void)
{
	uint32_t from = roll(16), to = from + roll(16 - from);
	switch (roll(9)) {
	case 0:
		return text("10.0.0.%u", roll(16));
	case 1:
		return text("10.0.0.%u/%u", roll(4) * 4, 30U);
	case 2:
		return text("10.0.0.%u-10.0.0.%u", from, to);
	case 3:
		return text("fd00::%x", roll(16));
	case 4:
		return text("fd00::%x/126", roll(4) * 4);
	case 5:
		return text("fd00::%x-fd00::%x", from, to);
	case 6:
		return text("0.0.0.0/%u", roll(2));
	case 7:
		return text("128.0.0.0/1");
	}
	return text("::/0");
}

static char **random_list(size_t *ret_count, size_t most, char *(*one)(void))
{
	static char *lists[2048][4];
	static size_t used;
	char **list = lists[used++ % 2048];
	*ret_count = 1 + roll((uint32_t)most);
	for (size_t i = 0; i < *ret_count; i++)
		list[i] = one();
	return list;
}

static uint32_t set_count, schedule_count;

static char *random_client(void)
{
	return set_count && chance(60) ? text("c%u", roll(set_count)) : random_range();
}
static char *random_destination(void)
{
	return set_count && chance(60) ? text("d%u", roll(set_count)) : random_range();
}
static char *random_protocol(void)
{
	return text("p%u", roll(3));
}
static char *random_gateway(void)
{
	return text("gw%u", roll(3));
}
static char *random_label(void)
{
	return text("l%u", roll(3));
}
static char *random_user_set(void)
{
	return text("u%u", roll(3));
}
static char *random_user(void)
{
	return text("user%u", roll(3));
}
static char *random_ports(void)
{
	uint32_t from = 1 + roll(8);
	return chance(50) ? text("%u", from) : text("%u-%u", from, from + roll(5));
}

#define MAYBE(percent, message, field, most, one)                                                  \
	do {                                                                                       \
		if (chance(percent))                                                               \
			(message)->field = random_list(&(message)->n_##field, most, one);          \
	} while (0)

static char *random_expiry(void)
{
	return chance(50) ? text("1970-01-01T00:00:%02uZ", roll(10)) : text("2100-01-01");
}

#define RULE_PARTS(rule, number)                                                                   \
	do {                                                                                       \
		(rule)->name = text("r%u", number);                                                \
		(rule)->action = chance(65) ? POSTERN__V1__ACTION__ACTION_ALLOW                    \
					    : POSTERN__V1__ACTION__ACTION_DENY;                    \
		(rule)->disabled = chance(5);                                                      \
		(rule)->staged = chance(10);                                                       \
		MAYBE(50, rule, clients, 3, random_client);                                        \
		MAYBE(15, rule, clients_except, 2, random_client);                                 \
		MAYBE(20, rule, users, 2, random_user_set);                                        \
		MAYBE(15, rule, gateways, 2, random_gateway);                                      \
		MAYBE(15, rule, gateway_labels, 2, random_label);                                  \
		if (chance(10))                                                                    \
			(rule)->expires = random_expiry();                                         \
		if (schedule_count && chance(20))                                                  \
			(rule)->schedule = text("s%u", roll(schedule_count));                      \
	} while (0)

#define RULES_MOST 400
static Postern__V1__ProtocolRule protocol_rules[RULES_MOST];
static Postern__V1__SiteAndContentRule site_rules[RULES_MOST];
static Postern__V1__AddressSet client_sets[8], destination_sets[8];
static Postern__V1__UserSet user_sets[3];
static Postern__V1__Schedule schedules[3];
static void *pointers[5][RULES_MOST];

static void random_set(Postern__V1__AddressSet *set, const char *letter, uint32_t number)
{
	postern__v1__address_set__init(set);
	set->name = text("%s%u", letter, number);
	MAYBE(80, set, addresses, 3, random_range);
	if (number > 0 && chance(40)) {
		static char *lists[16][1];
		static size_t used;
		char **list = lists[used++ % 16];
		list[0] = text("%s%u", letter, roll(number));
		set->sets = list;
		set->n_sets = 1;
	}
}

static Postern__V1__PolicyDocument random_document(void)
{
	Postern__V1__PolicyDocument document = POSTERN__V1__POLICY_DOCUMENT__INIT;
	static char *weekly[3][1] = {{"thu 00:00-00:01"}, {"mon-wed"}, {"thu 00:00-12:00"}};
	uint32_t rules = chance(80) ? 1 + roll(12) : 100 + roll(RULES_MOST - 100);
	arena.count = 0;
	set_count = roll(5);
	schedule_count = roll(4);
	for (uint32_t i = 0; i < set_count; i++) {
		random_set(&client_sets[i], "c", i);
		random_set(&destination_sets[i], "d", i);
		pointers[0][i] = &client_sets[i];
		pointers[1][i] = &destination_sets[i];
	}
	for (uint32_t i = 0; i < 3; i++) {
		postern__v1__user_set__init(&user_sets[i]);
		user_sets[i].name = text("u%u", i);
		MAYBE(80, &user_sets[i], users, 2, random_user);
		pointers[2][i] = &user_sets[i];
	}
	for (uint32_t i = 0; i < schedule_count; i++) {
		postern__v1__schedule__init(&schedules[i]);
		schedules[i].name = text("s%u", i);
		schedules[i].n_weekly = 1;
		schedules[i].weekly = weekly[i];
		pointers[3][i] = &schedules[i];
	}
	document.client_sets = (void *)pointers[0];
	document.destination_sets = (void *)pointers[1];
	document.user_sets = (void *)pointers[2];
	document.schedules = (void *)pointers[3];
	document.n_client_sets = document.n_destination_sets = set_count;
	document.n_user_sets = 3;
	document.n_schedules = schedule_count;
	static void *protocol_pointers[RULES_MOST], *site_pointers[RULES_MOST];
	for (uint32_t i = 0; i < rules; i++) {
		postern__v1__protocol_rule__init(&protocol_rules[i]);
		RULE_PARTS(&protocol_rules[i], i);
		MAYBE(40, &protocol_rules[i], protocols, 2, random_protocol);
		MAYBE(10, &protocol_rules[i], protocols_except, 2, random_protocol);
		protocol_pointers[i] = &protocol_rules[i];
		postern__v1__site_and_content_rule__init(&site_rules[i]);
		RULE_PARTS(&site_rules[i], i);
		MAYBE(60, &site_rules[i], destinations, 3, random_destination);
		MAYBE(15, &site_rules[i], destinations_except, 2, random_destination);
		MAYBE(30, &site_rules[i], ports, 2, random_ports);
		site_pointers[i] = &site_rules[i];
	}
	document.protocol_rules = (void *)protocol_pointers;
	document.site_and_content_rules = (void *)site_pointers;
	document.n_protocol_rules = document.n_site_and_content_rules = rules;
	return document;
}

/* ---- the reference ---- */

static const char *const labels_of[] = {"l0", "l1,l2", ""};

static bool set_has(const struct document_set *sets, size_t i, const struct addr *addr)
{
	bool has = ranges_contain(&sets[i].addresses, addr);
	for (size_t j = 0; j < sets[i].sets.count; j++)
		has = has || set_has(sets, sets[i].sets.items[j], addr);
	return has;
}

static bool list_has(const struct document_addresses *list, const struct document_set *sets,
	const struct addr *addr)
{
	bool has = ranges_contain(&list->addresses, addr);
	for (size_t j = 0; j < list->sets.count; j++)
		has = has || set_has(sets, list->sets.items[j], addr);
	return has;
}

static void gather(const struct document_set *sets, size_t i, struct ranges *all)
{
	ranges_add_all(all, &sets[i].addresses);
	for (size_t j = 0; j < sets[i].sets.count; j++)
		gather(sets, sets[i].sets.items[j], all);
}

/* Everybody (or anybody at all) of the family. */
static bool list_extent(const struct document_addresses *list, const struct document_set *sets,
	enum addr_family family, bool whole)
{
	struct ranges all = {0};
	ranges_add_all(&all, &list->addresses);
	for (size_t j = 0; j < list->sets.count; j++)
		gather(sets, list->sets.items[j], &all);
	ranges_normalize(&all);
	bool has = whole ? ranges_cover_family(&all, family) : ranges_touch_family(&all, family);
	ranges_fini(&all);
	return has;
}

static bool given(const struct document_addresses *list)
{
	return list->texts.count > 0;
}

static bool texts_have(const struct document_texts *texts, const char *word)
{
	for (size_t i = 0; i < texts->count; i++)
		if (strcmp(texts->items[i], word) == 0)
			return true;
	return false;
}

static bool reference_matches(const struct document *d, const struct document_rule *r,
	const struct policy_question *q, const struct addr *remote)
{
	const struct document_set *to = d->destination_sets;
	enum addr_family family = (enum addr_family)q->client.family;
	bool user = false, gateway = false, port = false;
	if (r->disabled || q->at_us >= r->expires_us)
		return false;
	if (r->protocols.count && !texts_have(&r->protocols, q->protocol))
		return false;
	if (texts_have(&r->protocols_except, q->protocol))
		return false;
	if (given(&r->clients) && !list_has(&r->clients, d->client_sets, &q->client))
		return false;
	if (list_has(&r->clients_except, d->client_sets, &q->client))
		return false;
	if (given(&r->destinations) &&
		!(remote ? list_has(&r->destinations, to, remote)
			 : list_extent(&r->destinations, to, family, !r->deny)))
		return false;
	if (given(&r->destinations_except) &&
		(remote ? list_has(&r->destinations_except, to, remote)
			: list_extent(&r->destinations_except, to, family, r->deny)))
		return false;
	for (size_t i = 0; i < r->users.count; i++)
		user = user ||
			(q->user[0] && texts_have(&d->user_sets[r->users.items[i]].users, q->user));
	if (r->users.count && !user)
		return false;
	for (size_t i = 0; i < r->gateway_labels.count; i++)
		gateway = gateway ||
			(q->gateway[0] &&
				strstr(labels_of[q->gateway[2] - '0'], r->gateway_labels.items[i]));
	if ((r->gateways.count || r->gateway_labels.count) && !gateway &&
		!texts_have(&r->gateways, q->gateway))
		return false;
	bool all_ports = true;
	for (unsigned p = q->port_first; p <= q->port_last; p++) {
		bool in = ports_cover(&r->ports, (uint16_t)p, (uint16_t)p);
		port = port || in;
		all_ports = all_ports && in;
	}
	if (r->ports.count && !(r->deny ? port : all_ports))
		return false;
	return r->schedule < 0 || schedule_is_active(&d->schedules[r->schedule].schedule, q->at_us);
}

static bool reference_allows(const struct document *d, const struct policy_question *q,
	uint8_t type, bool staged, const struct addr *remote, const char **ret_rule)
{
	for (int deny = 1; deny >= 0; deny--)
		for (size_t i = 0; i < d->rule_count; i++) {
			const struct document_rule *r = &d->rules[i];
			if (r->type != type || r->deny != deny || (r->staged && !staged))
				continue;
			if (reference_matches(d, r, q, remote)) {
				*ret_rule = r->name;
				return !deny;
			}
		}
	*ret_rule = "";
	return false;
}

static struct policy_answer reference(
	const struct document *d, const struct policy_question *q, bool staged)
{
	struct policy_answer answer = {.site_rule = "", .staged_rule = ""};
	size_t i = 0;
	do {
		const struct addr *remote = q->remote_count ? &q->remotes[i] : NULL;
		const char *site = "";
		if (!reference_allows(d, q, RULE_TYPE_PROTOCOL, staged, remote, &answer.rule)) {
			answer.verdict = POLICY_DENIED_BY_PROTOCOL_RULES;
			answer.site_rule = "";
			return answer;
		}
		if (!reference_allows(d, q, RULE_TYPE_SITE_AND_CONTENT, staged, remote, &site)) {
			answer.verdict = POLICY_DENIED_BY_SITE_AND_CONTENT_RULES;
			answer.rule = site;
			answer.site_rule = "";
			return answer;
		}
		answer.site_rule = site;
	} while (++i < q->remote_count);
	return answer;
}

/* ---- the comparison ---- */

static struct addr random_addr(bool ipv6)
{
	char copy[40];
	snprintf(copy, sizeof copy, ipv6 ? "fd00::%x" : "10.0.0.%u", roll(16));
	return address(chance(5) ? (ipv6 ? "2001:db8::1" : "203.0.113.1") : copy);
}

static void on_explained(void *arg, const struct document_rule *rule, bool matched,
	const struct policy_condition *conditions, size_t count)
{
	size_t missed = 0;
	(void)arg;
	(void)rule;
	for (size_t i = 0; i < count; i++)
		missed += !conditions[i].matched;
	cr_assert_eq(matched, missed == 0);
}

static void compare_one(const struct policy *policy)
{
	const struct document *document = policy_document(policy);
	static char gateways[4][4] = {"gw0", "gw1", "gw2", ""};
	static char protocols[4][4] = {"p0", "p1", "p2", "p9"};
	static char users[4][8] = {"user0", "user1", "user9", ""};
	struct addr remotes[3];
	bool ipv6 = chance(50);
	uint16_t port = (uint16_t)(1 + roll(14));
	struct policy_question question = {.at_us = (int64_t)roll(200) * 1000000,
		.gateway = gateways[roll(4)],
		.protocol = protocols[roll(4)],
		.user = users[roll(4)],
		.client = random_addr(ipv6),
		.remotes = remotes,
		.remote_count = chance(70) ? 1 : roll(4),
		.port_first = port,
		.port_last = (uint16_t)(port + (chance(20) ? roll(4) : 0))};
	for (size_t i = 0; i < question.remote_count; i++)
		remotes[i] = random_addr(ipv6);
	struct policy_answer answer, expected = reference(document, &question, false),
				     then = reference(document, &question, true);
	policy_decide(policy, &question, &answer);
	cr_assert_eq(
		answer.verdict, expected.verdict, "%d, not %d", answer.verdict, expected.verdict);
	cr_assert_str_eq(answer.rule, expected.rule);
	cr_assert_str_eq(answer.site_rule, expected.site_rule);
	cr_assert_eq(answer.staged_rule[0] != '\0',
		(then.verdict == POLICY_ALLOWED) != (expected.verdict == POLICY_ALLOWED));
	if (chance(2))
		(void)policy_explain(policy, &question, 0, SIZE_MAX, true, on_explained, NULL);
}

Test(policy_model, decides_as_the_text_says)
{
	const char *seed = getenv("SEED"), *count = getenv("COUNT");
	const struct policy_gateway gateways[] = {
		{"gw0", labels_of[0]}, {"gw1", labels_of[1]}, {"gw2", labels_of[2]}};
	state = seed ? strtoull(seed, NULL, 0) : 20261124;
	unsigned long policies = count ? strtoul(count, NULL, 0) : 1500;
	for (unsigned long i = 0; i < policies; i++) {
		Postern__V1__PolicyDocument message = random_document();
		struct policy *policy = compile_with(
			&message, (struct policy_input){.gateways = gateways, .gateway_count = 3});
		for (int j = 0; j < 400; j++)
			compare_one(policy);
		policy_release(policy);
	}
}
