/* The output of iptables-save and ip6tables-save. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/import/import.h"
#include "client/cli/words.h"
#include "common/addr.h"

#define WORDS_MAX 128

struct ip_rule {
	size_t line;
	const char *table, *chain, *target, *goto_chain;
	const char *helper; /* -j CT --helper */
	struct match match;
};

/* A chain on the way, so that none is entered twice. */
struct ip_way {
	const struct ip_way *before;
	const char *chain;
	unsigned depth;
};

struct ip_rules {
	struct import *import;
	struct ip_rule *items;
	size_t count, room;
};

/* ---- one rule ---- */

static bool is_flag(const char *word, const char *one, const char *other)
{
	return strcmp(word, one) == 0 || strcmp(word, other) == 0;
}

/* "10.0.0.0/255.0.0.0" is written with its length. */
static const char *clean_address(struct import *import, struct match *match, const char *text)
{
	const char *slash = strchr(text, '/');
	struct addr mask;
	char copy[80];
	unsigned length = 0;
	bool holes = false;

	if (slash == NULL || !addr_parse(slash + 1, &mask))
		return import_text(import, text, strlen(text));
	for (size_t i = 0; i < addr_length(&mask) * 8; i++) {
		bool set = (mask.bytes[i / 8] >> (7 - i % 8) & 1) != 0;
		holes |= set && length < i;
		length += set;
	}
	if (holes)
		match_unknown(import, match, text);
	snprintf(copy, sizeof(copy), "%.*s/%u", (int)(slash - text), text, length);
	return import_text(import, copy, strlen(copy));
}

static void add_addresses(
	struct import *import, struct match *match, bool is_source, bool negated, const char *text)
{
	while (*text != '\0') {
		size_t length = strcspn(text, ",");
		const char *one = import_text(import, text, length);
		one = clean_address(import, match, one);
		if (strchr(one, ':') != NULL)
			match->family = ADDR_IPV6;
		match_add_address(import, match, is_source, negated, one);
		text += length;
		text += *text == ',';
	}
}

static void set_transport(struct import *import, struct match *match, const char *text)
{
	char what[80];

	if (strcmp(text, "tcp") == 0 || strcmp(text, "6") == 0) {
		match->transport = 6;
	} else if (strcmp(text, "udp") == 0 || strcmp(text, "17") == 0) {
		match->transport = 17;
	} else if (strcmp(text, "all") != 0) {
		snprintf(what, sizeof(what), "protocol %.40s", text);
		match_unknown(import, match, what);
	}
}

static void add_ports(struct import *import, struct match *match, char *text)
{
	char what[120], *rest = text;

	for (char *one; (one = strsep(&rest, ","));)
		if (!match_add_ports(match, one)) {
			snprintf(what, sizeof(what), "ports %.60s", one);
			match_unknown(import, match, what);
		}
}

static void add_states(struct match *match, const char *text)
{
	bool is_new = strstr(text, "NEW") != NULL, related = strstr(text, "RELATED") != NULL;

	match->new_flows |= is_new;
	match->related_only |= related && !is_new;
	match->old_only |= !related && !is_new;
}

/* Words that take no value, or one that says nothing about the flow. */
static bool is_harmless(const char *word)
{
	static const char *const modules[] = {"tcp", "udp", "state", "conntrack", "comment",
		"multiport", "helper", "iprange", NULL};

	for (size_t i = 0; modules[i] != NULL; i++)
		if (strcmp(word, modules[i]) == 0)
			return true;
	return false;
}

struct words {
	char *items[WORDS_MAX];
	size_t count, next;
};

static char *next_word(struct words *words)
{
	static char none[64];

	return words->next < words->count ? words->items[words->next++] : none;
}

static void unknown_option(
	struct import *import, struct match *match, const char *word, bool negated)
{
	char what[120];

	snprintf(what, sizeof(what), "%s%.80s", negated ? "! " : "", word);
	match_unknown(import, match, what);
}

static void read_target(struct words *words, struct ip_rule *rule)
{
	static const char *const plain[] = {"ACCEPT", "DROP", "RETURN", NULL};

	rule->target = next_word(words);
	for (size_t i = 0; plain[i] != NULL; i++)
		if (strcmp(rule->target, plain[i]) == 0)
			return; /* it takes no options: what follows are matches */
	while (words->next < words->count) {
		const char *word = next_word(words);
		if (strcmp(word, "--helper") == 0)
			rule->helper = next_word(words);
	}
}

static void read_option(struct import *import, struct words *words, const char *word, bool negated,
	struct ip_rule *rule)
{
	struct match *match = &rule->match;

	if (is_flag(word, "-s", "--source"))
		add_addresses(import, match, true, negated, next_word(words));
	else if (is_flag(word, "-d", "--destination"))
		add_addresses(import, match, false, negated, next_word(words));
	else if (is_flag(word, "--src-range", "--src-range") && !negated)
		add_addresses(import, match, true, false, next_word(words));
	else if (is_flag(word, "--dst-range", "--dst-range") && !negated)
		add_addresses(import, match, false, false, next_word(words));
	else if (is_flag(word, "-p", "--protocol") && !negated)
		set_transport(import, match, next_word(words));
	else if ((is_flag(word, "--dport", "--destination-port") ||
			 is_flag(word, "--dports", "--destination-ports")) &&
		!negated)
		add_ports(import, match, next_word(words));
	else if (is_flag(word, "--state", "--ctstate") && !negated)
		add_states(match, next_word(words));
	else if (is_flag(word, "--helper", "--helper") && !negated)
		match->helper = next_word(words);
	else if (is_flag(word, "--comment", "--comment"))
		(void)next_word(words);
	else if (is_flag(word, "-m", "--match") && words->next < words->count &&
		is_harmless(words->items[words->next]))
		(void)next_word(words);
	else if (is_flag(word, "-j", "--jump"))
		read_target(words, rule);
	else if (is_flag(word, "-g", "--goto"))
		rule->goto_chain = next_word(words);
	else
		unknown_option(import, match, word, negated);
}

static bool read_rule(
	struct ip_rules *rules, const char *table, uint8_t family, size_t line, char *text)
{
	struct import *import = rules->import;
	struct words words = {.next = 0};
	struct error ignored;

	if (rules->count == rules->room) {
		size_t room = rules->room == 0 ? 64 : rules->room * 2;
		void *grown = reallocarray(rules->items, room, sizeof(*rules->items));
		if (grown == NULL)
			return false;
		rules->items = grown;
		rules->room = room;
	}
	if (words_split(text, WORDS_MAX, words.items, &words.count, &ignored) != STATUS_OK) {
		import_note(
			import, line, "more than %d words, or a quote without an end", WORDS_MAX);
		return true;
	}
	struct ip_rule *rule = &rules->items[rules->count++];
	*rule = (struct ip_rule){.line = line, .table = table, .chain = "", .target = ""};
	rule->match.family = family;
	(void)next_word(&words); /* -A */
	rule->chain = next_word(&words);
	while (words.next < words.count) {
		const char *word = next_word(&words);
		bool negated = strcmp(word, "!") == 0;
		if (negated)
			word = next_word(&words);
		read_option(import, &words, word, negated, rule);
	}
	return true;
}

/* ---- chains ---- */

static bool has_chain(const struct ip_rules *rules, const char *table, const char *chain)
{
	for (size_t i = 0; i < rules->count; i++)
		if (strcmp(rules->items[i].table, table) == 0 &&
			strcmp(rules->items[i].chain, chain) == 0)
			return true;
	return false;
}

static bool is_on_way(const struct ip_way *way, const char *chain)
{
	for (; way != NULL; way = way->before)
		if (strcmp(way->chain, chain) == 0)
			return true;
	return false;
}

static void walk(const struct ip_rules *rules, const char *chain, const struct match *from,
	const struct ip_way *before)
{
	struct import *import = rules->import;
	const struct ip_way way = {before, chain, before == NULL ? 0 : before->depth + 1};

	for (size_t i = 0; i < rules->count && import_step(import); i++) {
		const struct ip_rule *rule = &rules->items[i];
		const char *next = rule->goto_chain != NULL ? rule->goto_chain : rule->target;
		if (strcmp(rule->table, "filter") != 0 || strcmp(rule->chain, chain) != 0)
			continue;
		struct match both = match_both(import, from, &rule->match);
		if (strcmp(rule->target, "ACCEPT") == 0)
			import_accept(import, rule->line, &both);
		else if (strcmp(rule->target, "DROP") == 0 || strcmp(rule->target, "REJECT") == 0 ||
			strcmp(rule->target, "RETURN") == 0)
			import_drop(import, rule->line, &both);
		else if (has_chain(rules, "filter", next) && way.depth < IMPORT_DEPTH_MAX &&
			!is_on_way(&way, next)) {
			struct match jump = match_jump(import, &both, rule->line);
			walk(rules, next, &jump, &way);
		}
	}
}

static void read_helpers(const struct ip_rules *rules)
{
	for (size_t i = 0; i < rules->count; i++) {
		const struct ip_rule *rule = &rules->items[i];
		if (strcmp(rule->target, "CT") == 0 && rule->helper != NULL)
			import_helper_port(rules->import, rule->line, rule->helper,
				rule->match.transport, &rule->match);
	}
}

enum status iptables_read(struct import *import, const char *text, struct error *err)
{
	struct ip_rules rules = {.import = import};
	const struct match everything = {0};
	const char *table = "filter";
	uint8_t family = strstr(text, "ip6tables") != NULL || strstr(text, "ipv6-icmp") != NULL
		? ADDR_IPV6
		: ADDR_IPV4;
	bool done = true;

	for (size_t line = 1; *text != '\0' && done; line++) {
		size_t length = strcspn(text, "\n");
		char *copy = (char *)(uintptr_t)import_text(import, text, length);
		if (copy[0] == '#' && strstr(copy, "tables-save") != NULL)
			family = strstr(copy, "ip6tables") != NULL ? ADDR_IPV6 : ADDR_IPV4;
		if (copy[0] == '*')
			table = copy + 1;
		else if (copy[0] == '[' && strchr(copy, ']') != NULL) /* iptables-save -c */
			copy = strchr(copy, ']') + 1 + strspn(strchr(copy, ']') + 1, " ");
		if (strncmp(copy, "-A ", 3) == 0)
			done = read_rule(&rules, table, family, line, copy);
		text += length;
		text += *text == '\n';
	}
	if (done) {
		read_helpers(&rules);
		walk(&rules, "FORWARD", &everything, NULL);
	}
	free(rules.items);
	return done
		? STATUS_OK
		: error_set(err, STATUS_RESOURCE_EXHAUSTED, "%.120s: out of memory", import->name);
}
