/* link: postern_server */
/* What a decision costs with 10, 1,000 and 100,000 rules, with a feed of 1,000,000 prefixes, and
 * with a policy whose rules are all broad, beside a scan over all rules in the same run. Both
 * answer the same questions, and must agree. Then what a compiled policy takes of time and memory.
 *
 * Usage: bench_policy [--questions N] [--rules N] (the largest policy; 100000). */
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/config.h"
#include "postern/v1/document.pb-c.h"
#include "server/document/arena.h"
#include "server/policy/policy.h"

enum { BATCH = 100, PROTOCOLS = 50, PREFIXES = 1000000, PREFIXES_OF_SET = 10 };

static uint64_t state = 20261124;

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint32_t roll(uint32_t most)
{
	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(state >> 33) % most;
}

static void die(const char *what, const struct error *err)
{
	fprintf(stderr, "bench_policy: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
	exit(1);
}

static struct arena arena; /* of one policy */

static void *array(size_t count, size_t size)
{
	void *made = arena_array(&arena, count + 1, size);
	if (!made)
		die("out of memory", NULL);
	return made;
}

static char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text(const char *format, ...)
{
	char made[80], *copy;
	va_list args;
	va_start(args, format);
	vsnprintf(made, sizeof made, format, args);
	va_end(args);
	copy = array(strlen(made) + 1, 1);
	memcpy(copy, made, strlen(made));
	return copy;
}

static char **one(char *item)
{
	char **list = array(1, sizeof *list);
	list[0] = item;
	return list;
}

/* ---- policies ---- */

enum shape { USUAL, FEED, BROAD };

struct plan {
	enum shape shape;
	uint32_t rules; /* of both types together */
	uint32_t sets; /* of each kind */
};

static uint32_t spread_of(const struct plan *plan)
{
	return plan->shape == BROAD ? 4 : plan->sets * PREFIXES_OF_SET * 2;
}

static char *random_prefix(const struct plan *plan, bool is_client)
{
	uint32_t n = roll(spread_of(plan)), net = is_client ? 10 : 100;
	if (roll(2))
		return text("fd%02u:%x:%x::/48", net % 100, n >> 16, n & 0xffff);
	return text("%u.%u.%u.0/24", net + (n >> 16), n >> 8 & 255, n & 255);
}

static Postern__V1__AddressSet *make_set(const struct plan *plan, bool is_client, uint32_t number)
{
	Postern__V1__AddressSet *set = array(1, sizeof *set);
	postern__v1__address_set__init(set);
	set->name = text("%s %u", is_client ? "clients" : "destinations", number);
	set->n_addresses = PREFIXES_OF_SET;
	set->addresses = array(PREFIXES_OF_SET, sizeof *set->addresses);
	for (size_t i = 0; i < PREFIXES_OF_SET; i++)
		set->addresses[i] = random_prefix(plan, is_client);
	if (plan->shape == FEED && !is_client) {
		set->feeds = one(text("feed"));
		set->n_feeds = number == 0;
	}
	return set;
}

static char **some_set(const struct plan *plan, const char *kind)
{
	return one(text("%s %u", kind, roll(plan->sets)));
}

static Postern__V1__ProtocolRule *protocol_rule(const struct plan *plan, uint32_t number)
{
	Postern__V1__ProtocolRule *rule = array(1, sizeof *rule);
	postern__v1__protocol_rule__init(rule);
	rule->name = text("rule %u", number);
	rule->action =
		roll(10) ? POSTERN__V1__ACTION__ACTION_ALLOW : POSTERN__V1__ACTION__ACTION_DENY;
	rule->clients = some_set(plan, "clients");
	rule->n_clients = roll(100) < 98;
	rule->protocols = one(text("p%u", roll(plan->shape == BROAD ? 4 : PROTOCOLS)));
	rule->n_protocols = roll(100) < 90 || rule->n_clients == 0;
	rule->gateways = one(text("gw%u", roll(plan->shape == BROAD ? 2 : 100)));
	rule->n_gateways = plan->shape == BROAD || roll(2);
	return rule;
}

static Postern__V1__SiteAndContentRule *site_rule(const struct plan *plan, uint32_t number)
{
	Postern__V1__SiteAndContentRule *rule = array(1, sizeof *rule);
	static char *ports[] = {"1-1000"};
	postern__v1__site_and_content_rule__init(rule);
	rule->name = text("rule %u", number);
	rule->action =
		roll(10) ? POSTERN__V1__ACTION__ACTION_ALLOW : POSTERN__V1__ACTION__ACTION_DENY;
	rule->destinations = some_set(plan, "destinations");
	rule->n_destinations = 1;
	rule->clients = some_set(plan, "clients");
	rule->n_clients = plan->shape == BROAD || roll(2);
	/* Nobody of the broad ones matches in the end: the search goes through all of them. */
	rule->ports = ports;
	rule->n_ports = plan->shape == BROAD;
	return rule;
}

static uint8_t *make_document(const struct plan *plan, size_t *ret_size)
{
	Postern__V1__PolicyDocument document = POSTERN__V1__POLICY_DOCUMENT__INIT;
	Postern__V1__Feed feed = POSTERN__V1__FEED__INIT, *feeds[] = {&feed};
	uint32_t half = plan->rules / 2;
	feed.name = "feed";
	feed.url = "https://feeds.example/list.txt";
	document.feeds = feeds;
	document.n_feeds = 1;
	document.client_sets = array(plan->sets, sizeof *document.client_sets);
	document.destination_sets = array(plan->sets, sizeof *document.destination_sets);
	for (uint32_t i = 0; i < plan->sets; i++) {
		document.client_sets[document.n_client_sets++] = make_set(plan, true, i);
		document.destination_sets[document.n_destination_sets++] = make_set(plan, false, i);
	}
	document.protocol_rules = array(half, sizeof *document.protocol_rules);
	document.site_and_content_rules = array(half, sizeof *document.site_and_content_rules);
	for (uint32_t i = 0; i < half; i++) {
		document.protocol_rules[document.n_protocol_rules++] = protocol_rule(plan, i);
		document.site_and_content_rules[document.n_site_and_content_rules++] =
			site_rule(plan, i);
	}
	*ret_size = postern__v1__policy_document__get_packed_size(&document);
	uint8_t *packed = array(*ret_size, 1);
	postern__v1__policy_document__pack(&document, packed);
	return packed;
}

/* ---- the scan ---- */

static const struct ranges *feed_ranges;

static bool in_list(const struct document_addresses *list, const struct document_set *sets,
	const struct addr *addr)
{
	if (ranges_contain(&list->addresses, addr))
		return true;
	for (size_t i = 0; i < list->sets.count; i++) {
		const struct document_set *set = &sets[list->sets.items[i]];
		if (ranges_contain(&set->addresses, addr) ||
			(set->feeds.count && ranges_contain(feed_ranges, addr)))
			return true;
	}
	return false;
}

static bool has(const struct document_texts *texts, const char *word)
{
	for (size_t i = 0; i < texts->count; i++)
		if (strcmp(texts->items[i], word) == 0)
			return true;
	return false;
}

static bool scan_type(
	const struct document *document, uint8_t type, const struct policy_question *question)
{
	bool allowed = false;
	for (size_t i = 0; i < document->rule_count; i++) {
		const struct document_rule *rule = &document->rules[i];
		if (rule->type != type ||
			(rule->protocols.count && !has(&rule->protocols, question->protocol)) ||
			(rule->gateways.count && !has(&rule->gateways, question->gateway)) ||
			(rule->ports.count &&
				!ports_cover(
					&rule->ports, question->port_first, question->port_last)) ||
			(rule->clients.texts.count &&
				!in_list(&rule->clients, document->client_sets,
					&question->client)) ||
			(rule->destinations.texts.count &&
				!in_list(&rule->destinations, document->destination_sets,
					&question->remotes[0])))
			continue;
		if (rule->deny)
			return false;
		allowed = true;
	}
	return allowed;
}

static bool scan(const struct document *document, const struct policy_question *question)
{
	return scan_type(document, RULE_TYPE_PROTOCOL, question) &&
		scan_type(document, RULE_TYPE_SITE_AND_CONTENT, question);
}

/* ---- questions ---- */

struct asked {
	struct policy_question question;
	struct addr remote;
	char protocol[8], gateway[8];
};

static void random_address(const struct plan *plan, bool is_client, bool ipv6, struct addr *addr)
{
	uint32_t n = roll(spread_of(plan)), net = is_client ? 10 : 100;
	char copy[64];
	if (ipv6)
		snprintf(copy, sizeof copy, "fd%02u:%x:%x::%x", net % 100, n >> 16, n & 0xffff,
			1 + roll(1000));
	else
		snprintf(copy, sizeof copy, "%u.%u.%u.%u", net + (n >> 16), n >> 8 & 255, n & 255,
			roll(256));
	if (!addr_parse(copy, addr))
		die(copy, NULL);
}

static struct asked *make_questions(const struct plan *plan, size_t count)
{
	struct asked *asked = array(count, sizeof *asked);
	for (size_t i = 0; i < count; i++) {
		bool ipv6 = roll(2);
		struct policy_question *question = &asked[i].question;
		snprintf(asked[i].protocol, sizeof asked[i].protocol, "p%u",
			roll(plan->shape == BROAD ? 4 : PROTOCOLS));
		snprintf(asked[i].gateway, sizeof asked[i].gateway, "gw%u",
			roll(plan->shape == BROAD ? 2 : 100));
		*question = (struct policy_question){.gateway = asked[i].gateway,
			.protocol = asked[i].protocol,
			.user = "",
			.remotes = &asked[i].remote,
			.remote_count = 1,
			.port_first = 5000,
			.port_last = 5000};
		random_address(plan, true, ipv6, &question->client);
		random_address(plan, false, ipv6, &asked[i].remote);
	}
	return asked;
}

/* ---- measuring ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Nanoseconds of one decision: median and 99th percentile over batches. */
static void measure_decisions(const struct policy *policy, const struct asked *asked, size_t count,
	double *ret_p50, double *ret_p99, size_t *ret_allowed)
{
	size_t batches = count / BATCH;
	double *ns = array(batches, sizeof *ns);
	*ret_allowed = 0;
	for (size_t i = 0; i < batches; i++) {
		int64_t began = now_ns();
		for (size_t j = 0; j < BATCH; j++) {
			struct policy_answer answer;
			policy_decide(policy, &asked[i * BATCH + j].question, &answer);
			*ret_allowed += answer.verdict == POLICY_ALLOWED;
		}
		ns[i] = (double)(now_ns() - began) / BATCH;
	}
	qsort(ns, batches, sizeof *ns, compare);
	*ret_p50 = ns[batches / 2];
	*ret_p99 = ns[batches * 99 / 100];
}

/* As many as fit into some hundred milliseconds; each is compared. */
static double measure_scan(
	const struct policy *policy, const struct asked *asked, size_t count, const char *name)
{
	int64_t began = clock_mono_us(), spent = 0;
	size_t i = 0;
	for (; i < count && spent < 300000; i++) {
		struct policy_answer answer;
		bool allowed = scan(policy_document(policy), &asked[i].question);
		spent = clock_mono_us() - began;
		policy_decide(policy, &asked[i].question, &answer);
		if (allowed != (answer.verdict == POLICY_ALLOWED))
			die(name, &(struct error){.text = "scan and decision differ"});
	}
	return (double)spent * 1000 / (double)i;
}

static void run(const char *name, const struct plan *plan, size_t questions, double *least)
{
	struct error err;
	struct policy *policy = NULL;
	struct policy_gateway *gateways = array(100, sizeof *gateways);
	struct policy_source source = {.name = "feed", .addresses = feed_ranges};
	struct policy_input input = {.gateways = gateways,
		.gateway_count = 100,
		.sources = &source,
		.source_count = plan->shape == FEED};
	size_t size, allowed;
	double p50, p99;
	for (uint32_t i = 0; i < 100; i++)
		gateways[i] = (struct policy_gateway){text("gw%u", i), ""};
	uint8_t *packed = make_document(plan, &size);
	struct asked *asked = make_questions(plan, questions);
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	int64_t began = clock_mono_us();
	if (document_unpack(packed, size, &input.document, &err) ||
		policy_compile(&input, &policy, &err))
		die(name, &err);
	int64_t built = clock_mono_us() - began;
	size_t memory = mallinfo2().uordblks + mallinfo2().hblkhd - before;
	measure_decisions(policy, asked, questions, &p50, &p99, &allowed);
	double scanned = measure_scan(policy, asked, questions, name);
	if (*least == 0)
		*least = p50;
	printf("%-24s %8.0f %8.0f %12.0f %9.1f %7.2f %8.0f %9.1f %8.1f%%\n", name, p50, p99,
		scanned, scanned / p50, p50 / *least, (double)built / 1000, (double)memory / 1e6,
		100.0 * (double)allowed / (double)(questions / BATCH * BATCH));
	fflush(stdout);
	policy_release(policy);
	arena_fini(&arena);
}

static struct ranges make_feed(void)
{
	struct ranges feed = {0};
	for (uint32_t i = 0; i < PREFIXES; i++) {
		char copy[40];
		struct error err;
		if (i % 2)
			snprintf(
				copy, sizeof copy, "2001:%x:%x::/48", roll(0x10000), roll(0x10000));
		else
			snprintf(copy, sizeof copy, "%u.%u.%u.%u/30", 120 + roll(80), roll(256),
				roll(256), roll(64) * 4);
		if (ranges_add_text(&feed, copy, &err))
			die(copy, &err);
	}
	ranges_normalize(&feed);
	return feed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"questions", required_argument, NULL, 'q'},
		{"rules", required_argument, NULL, 'r'}, {0}};
	uint64_t questions = 200000, rules = 100000;
	struct error err;
	double least = 0;
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		if ((c != 'q' && c != 'r') ||
			parse_number(optarg, c == 'q' ? 2 * BATCH : 10, 10000000,
				c == 'q' ? &questions : &rules, &err))
			die("usage: bench_policy [--questions N] [--rules N]", NULL);
	struct ranges feed = make_feed();
	feed_ranges = &feed;
	printf("ns a decision              p50      p99  a scan (ns)     ratio  growth build ms    "
	       "    MB  allowed\n");
	for (uint64_t count = 10; count <= rules; count *= 100) {
		struct plan plan = {USUAL, (uint32_t)count, (uint32_t)(count / 100 + 3)};
		char name[32];
		snprintf(name, sizeof name, "%llu rules", (unsigned long long)count);
		run(name, &plan, questions, &least);
	}
	struct plan fed = {FEED, 1000, 13}, broad = {BROAD, (uint32_t)rules, 8};
	run("1000 rules, 1M prefixes", &fed, questions, &least);
	run("all broad", &broad, questions < 20000 ? questions : 20000, &least);
	ranges_fini(&feed);
	return 0;
}
