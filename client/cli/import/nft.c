/* The output of nft list ruleset: tables, chains, named sets, ct helper objects. */
#include <stdlib.h>
#include <string.h>

#include "client/cli/import/import.h"
#include "common/addr.h"

#define TOKENS_MAX 4096

struct nft_set {
	const char *table, *name;
	const char **items;
	size_t count;
	bool is_plain; /* of addresses alone */
};

struct nft_helper { /* ct helper "ftp-std" { type "ftp" protocol tcp } */
	const char *table, *name, *type;
};

struct nft_rule {
	size_t line;
	const char *table, *chain, *jump; /* NULL = none */
	const char *sets_helper; /* the object's name */
	bool accepts, drops;
	struct match match;
};

struct nft_chain {
	const char *table, *name;
	bool forwards; /* hook forward */
	bool busy; /* the walk is in it */
};

struct nft {
	struct import *import;
	struct nft_set *sets;
	struct nft_helper *helpers;
	struct nft_rule *rules;
	struct nft_chain *chains;
	size_t set_count, helper_count, rule_count, chain_count;
	size_t set_room, helper_room, rule_room, chain_room;
	const char *table;
	uint8_t family; /* of the table; ADDR_NONE = both */
};

static void *add(struct nft *nft, void *array, size_t *count, size_t *room, size_t size)
{
	void **items = array;

	if (*count == *room) {
		size_t more = *room == 0 ? 32 : *room * 2;
		void *grown = reallocarray(*items, more, size);
		if (grown == NULL) {
			nft->import->failed = true;
			return NULL;
		}
		*items = grown;
		*room = more;
	}
	void *at = (char *)*items + (*count)++ * size;
	memset(at, 0, size);
	return at;
}

/* ---- tokens: words, quoted texts without their quotes, and { } , ---- */

struct tokens {
	const char *items[TOKENS_MAX];
	size_t count, next;
	bool too_many;
};

static void tokenize(struct import *import, const char *text, size_t length, struct tokens *tokens)
{
	const char *end = text + length;

	tokens->count = tokens->next = 0;
	tokens->too_many = false;
	while (text < end) {
		size_t size;
		if (strchr(" \t;", *text) != NULL) {
			text++;
			continue;
		}
		if (tokens->count == TOKENS_MAX) {
			tokens->too_many = true;
			return;
		}
		if (*text == '"') {
			const char *close = memchr(text + 1, '"', (size_t)(end - text - 1));
			size = close == NULL ? (size_t)(end - text - 1)
					     : (size_t)(close - text - 1);
			tokens->items[tokens->count++] = import_text(import, text + 1, size);
			text += size + 1 + (close != NULL);
			continue;
		}
		size = strchr("{},", *text) != NULL ? 1 : 0;
		while (size == 0 ||
			(strchr("{},", *text) == NULL && text + size < end &&
				strchr(" \t;{},\"", text[size]) == NULL))
			size++;
		tokens->items[tokens->count++] = import_text(import, text, size);
		text += size;
	}
}

static const char *peek(const struct tokens *tokens)
{
	return tokens->next < tokens->count ? tokens->items[tokens->next] : "";
}

static const char *take(struct tokens *tokens)
{
	return tokens->next < tokens->count ? tokens->items[tokens->next++] : "";
}

static bool take_if(struct tokens *tokens, const char *word)
{
	if (tokens->next == tokens->count || strcmp(peek(tokens), word) != 0)
		return false;
	tokens->next++;
	return true;
}

/* ---- lists: one value, { a, b }, or @set ---- */

struct list {
	const char **items;
	size_t count;
	bool negated;
	const char *unknown;
};

static void take_set(const struct nft *nft, const char *name, struct list *list)
{
	for (size_t i = 0; i < nft->set_count; i++) {
		const struct nft_set *set = &nft->sets[i];
		if (strcmp(set->table, nft->table) != 0 || strcmp(set->name, name) != 0)
			continue;
		if (!set->is_plain)
			break;
		list->items = set->items;
		list->count = set->count;
		if (set->count == 0)
			list->unknown = "a named set without elements";
		return;
	}
	list->unknown = "a named set that is not one of plain addresses or ports";
}

static struct list take_list(const struct nft *nft, struct tokens *tokens)
{
	struct list list = {0};

	list.negated = take_if(tokens, "!=");
	if (!list.negated)
		(void)take_if(tokens, "==");
	if (peek(tokens)[0] == '@') {
		take_set(nft, take(tokens) + 1, &list);
		return list;
	}
	if (!take_if(tokens, "{")) {
		match_add(nft->import, &list.items, &list.count, take(tokens));
		return list;
	}
	while (tokens->next < tokens->count && !take_if(tokens, "}")) {
		match_add(nft->import, &list.items, &list.count, take(tokens));
		(void)take_if(tokens, ",");
	}
	return list;
}

/* ---- one rule ---- */

static void add_addresses(
	const struct nft *nft, struct match *match, bool is_source, struct list list)
{
	struct import *import = nft->import;

	if (list.unknown != NULL)
		match_unknown(import, match, list.unknown);
	for (size_t i = 0; i < list.count; i++) {
		match_add_address(import, match, is_source, list.negated, list.items[i]);
	}
}

static const char *service_port(const char *name)
{
	static const char *const services[][2] = {{"ftp", "21"}, {"tftp", "69"}, {"sip", "5060"},
		{"sips", "5061"}, {"rtsp", "554"}, {"ircd", "6667"}, {"snmp", "161"},
		{"netbios-ns", "137"}, {"amanda", "10080"}, {"sane-port", "6566"},
		{"h323hostcall", "1720"}, {"http", "80"}, {"https", "443"}, {"ssh", "22"},
		{"domain", "53"}, {"smtp", "25"}};

	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (strcmp(services[i][0], name) == 0)
			return services[i][1];
	return name;
}

static void add_ports(const struct nft *nft, struct match *match, struct list list)
{
	char what[100];

	if (list.unknown != NULL)
		match_unknown(nft->import, match, list.unknown);
	if (list.negated)
		match_unknown(nft->import, match, "all ports but some");
	for (size_t i = 0; i < list.count; i++)
		if (!match_add_ports(match, service_port(list.items[i]))) {
			snprintf(what, sizeof(what), "port %.60s", list.items[i]);
			match_unknown(nft->import, match, what);
		}
}

static void set_transport(const struct nft *nft, struct match *match, struct list list)
{
	const char *name = list.count == 1 && !list.negated ? list.items[0] : "";

	if (strcmp(name, "tcp") == 0 || strcmp(name, "6") == 0)
		match->transport = 6;
	else if (strcmp(name, "udp") == 0 || strcmp(name, "17") == 0)
		match->transport = 17;
	else if (list.count != 2 || list.negated) /* { tcp, udp } */
		match_unknown(nft->import, match, "a transport that is neither tcp nor udp");
}

/* "ct state established,related", also in braces. */
static void take_states(const struct nft *nft, struct tokens *tokens, struct match *match)
{
	bool braces, negated = take_if(tokens, "!="), is_new = false, related = false;

	braces = take_if(tokens, "{");
	do {
		const char *state = take(tokens);
		is_new |= strcmp(state, "new") == 0;
		related |= strcmp(state, "related") == 0;
	} while (take_if(tokens, ","));
	if (braces)
		(void)take_if(tokens, "}");
	if (negated)
		match_unknown(nft->import, match, "ct state != ...");
	match->new_flows |= is_new;
	match->related_only |= related && !is_new;
	match->old_only |= !related && !is_new;
}

static void take_ct(const struct nft *nft, struct tokens *tokens, struct nft_rule *rule)
{
	const char *word = take(tokens);

	if (strcmp(word, "state") == 0) {
		take_states(nft, tokens, &rule->match);
	} else if (strcmp(word, "helper") == 0 && take_if(tokens, "set")) {
		rule->sets_helper = take(tokens);
	} else if (strcmp(word, "helper") == 0) {
		rule->match.helper = take(tokens);
	} else {
		match_unknown(nft->import, &rule->match, "ct ...");
		(void)take_list(nft, tokens);
	}
}

/* "ip saddr", "ip6 daddr", "ip protocol". */
static void take_ip(
	const struct nft *nft, struct tokens *tokens, uint8_t family, struct nft_rule *rule)
{
	const char *word = take(tokens);

	match_family(nft->import, &rule->match, family);
	if (strcmp(word, "saddr") == 0) {
		add_addresses(nft, &rule->match, true, take_list(nft, tokens));
	} else if (strcmp(word, "daddr") == 0) {
		add_addresses(nft, &rule->match, false, take_list(nft, tokens));
	} else if (strcmp(word, "protocol") == 0 || strcmp(word, "nexthdr") == 0) {
		set_transport(nft, &rule->match, take_list(nft, tokens));
	} else {
		match_unknown(nft->import, &rule->match, "ip ...");
		(void)take_list(nft, tokens);
	}
}

static void take_family(const struct nft *nft, struct tokens *tokens, struct match *match)
{
	struct list list = take_list(nft, tokens);
	const char *name = list.count == 1 && !list.negated ? list.items[0] : "";

	if (strcmp(name, "ipv4") == 0)
		match_family(nft->import, match, ADDR_IPV4);
	else if (strcmp(name, "ipv6") == 0)
		match_family(nft->import, match, ADDR_IPV6);
	else
		match_unknown(nft->import, match, "meta nfproto ...");
}

static void take_transport(
	const struct nft *nft, struct tokens *tokens, const char *name, struct nft_rule *rule)
{
	if (strcmp(name, "th") != 0)
		rule->match.transport = strcmp(name, "tcp") == 0 ? 6 : 17;
	if (take_if(tokens, "dport")) {
		add_ports(nft, &rule->match, take_list(nft, tokens));
	} else {
		match_unknown(nft->import, &rule->match, "a field of TCP or UDP beside dport");
		(void)take(tokens);
		(void)take_list(nft, tokens);
	}
}

/* Statements that say nothing about the flow. */
static bool take_harmless(struct tokens *tokens, const char *word)
{
	static const char *const log_words[] = {
		"prefix", "level", "group", "flags", "snaplen", "queue-threshold", NULL};

	if (strcmp(word, "counter") == 0) {
		if (take_if(tokens, "packets")) {
			(void)take(tokens);
			(void)take_if(tokens, "bytes");
			(void)take(tokens);
		}
		return true;
	}
	if (strcmp(word, "comment") == 0) {
		(void)take(tokens);
		return true;
	}
	if (strcmp(word, "log") != 0)
		return false;
	for (size_t i = 0; log_words[i] != NULL;) {
		if (take_if(tokens, log_words[i])) {
			(void)take(tokens);
			i = 0;
		} else {
			i++;
		}
	}
	return true;
}

static void take_statement(const struct nft *nft, struct tokens *tokens, struct nft_rule *rule)
{
	const char *word = take(tokens);
	char what[100];

	if (strcmp(word, "ip") == 0 || strcmp(word, "ip6") == 0)
		take_ip(nft, tokens, word[2] == '6' ? ADDR_IPV6 : ADDR_IPV4, rule);
	else if (strcmp(word, "tcp") == 0 || strcmp(word, "udp") == 0 || strcmp(word, "th") == 0)
		take_transport(nft, tokens, word, rule);
	else if (strcmp(word, "ct") == 0)
		take_ct(nft, tokens, rule);
	else if (strcmp(word, "meta") == 0 && take_if(tokens, "l4proto"))
		set_transport(nft, &rule->match, take_list(nft, tokens));
	else if (strcmp(word, "meta") == 0 && take_if(tokens, "nfproto"))
		take_family(nft, tokens, &rule->match);
	else if (strcmp(word, "accept") == 0)
		rule->accepts = true;
	else if (strcmp(word, "jump") == 0 || strcmp(word, "goto") == 0)
		rule->jump = take(tokens);
	else if (strcmp(word, "drop") == 0 || strcmp(word, "reject") == 0 ||
		strcmp(word, "return") == 0) {
		rule->drops = true;
		tokens->next = tokens->count;
	} else if (!take_harmless(tokens, word)) {
		snprintf(what, sizeof(what), "%.60s %.30s", word, peek(tokens));
		match_unknown(nft->import, &rule->match, what);
		(void)take_list(nft, tokens);
	}
}

static void read_rule(struct nft *nft, const char *chain, size_t line, struct tokens *tokens)
{
	struct nft_rule *rule =
		add(nft, &nft->rules, &nft->rule_count, &nft->rule_room, sizeof(*rule));

	if (rule == NULL)
		return;
	*rule = (struct nft_rule){.line = line, .table = nft->table, .chain = chain};
	rule->match.family = nft->family;
	if (tokens->too_many)
		match_unknown(nft->import, &rule->match, "a rule of too many words");
	while (tokens->next < tokens->count && !nft->import->failed)
		take_statement(nft, tokens, rule);
}

/* ---- blocks ---- */

struct lines {
	struct import *import;
	const char *at;
	size_t number;
	struct tokens tokens;
};

/* The next line that has any token. */
static bool next_line(struct lines *lines)
{
	do {
		if (*lines->at == '\0' || lines->import->failed)
			return false;
		size_t length = strcspn(lines->at, "\n");
		lines->number++;
		if (lines->at[strspn(lines->at, " \t")] == '#')
			lines->tokens.count = 0;
		else
			tokenize(lines->import, lines->at, length, &lines->tokens);
		lines->at += length;
		lines->at += *lines->at == '\n';
	} while (lines->tokens.count == 0);
	return true;
}

static bool closes(const struct lines *lines)
{
	return lines->tokens.count == 1 && strcmp(lines->tokens.items[0], "}") == 0;
}

/* What an element carries beside its value. */
static bool skip_attribute(struct tokens *tokens, const char *word)
{
	if (strcmp(word, "comment") == 0) {
		(void)take(tokens);
		return true;
	}
	if (strcmp(word, "counter") != 0)
		return false;
	if (take_if(tokens, "packets")) {
		(void)take(tokens);
		(void)take_if(tokens, "bytes");
		(void)take(tokens);
	}
	return true;
}

/* Every element up to the brace, over as many lines as it takes. */
static void read_elements(struct lines *lines, struct nft_set *set)
{
	do {
		while (lines->tokens.next < lines->tokens.count) {
			const char *word = take(&lines->tokens);
			if (strcmp(word, "}") == 0)
				return;
			if (strcmp(word, ",") == 0 || strcmp(word, "elements") == 0 ||
				strcmp(word, "=") == 0 || strcmp(word, "{") == 0)
				continue;
			if (strcmp(word, "timeout") == 0 || strcmp(word, "expires") == 0 ||
				strcmp(word, ":") == 0 || strcmp(word, ".") == 0)
				set->is_plain = false;
			if (skip_attribute(&lines->tokens, word))
				continue;
			match_add(lines->import, &set->items, &set->count, word);
		}
	} while (next_line(lines));
}

static void read_set(struct nft *nft, struct lines *lines, const char *name)
{
	struct nft_set *set = add(nft, &nft->sets, &nft->set_count, &nft->set_room, sizeof(*set));

	if (set == NULL)
		return;
	*set = (struct nft_set){.table = nft->table, .name = name};
	while (next_line(lines) && !closes(lines)) {
		const char *word = take(&lines->tokens);
		if (strcmp(word, "type") == 0)
			set->is_plain = lines->tokens.count == 2;
		for (size_t i = 1; strcmp(word, "flags") == 0 && i < lines->tokens.count; i++)
			if (strcmp(lines->tokens.items[i], "dynamic") == 0 ||
				strcmp(lines->tokens.items[i], "timeout") == 0)
				set->is_plain = false; /* it changes by itself */
		if (strcmp(word, "elements") == 0) {
			lines->tokens.next = 0;
			read_elements(lines, set);
		}
	}
}

static void read_helper(struct nft *nft, struct lines *lines, const char *name)
{
	struct nft_helper *helper =
		add(nft, &nft->helpers, &nft->helper_count, &nft->helper_room, sizeof(*helper));

	if (helper == NULL)
		return;
	*helper = (struct nft_helper){.table = nft->table, .name = name, .type = ""};
	while (next_line(lines) && !closes(lines))
		if (take_if(&lines->tokens, "type"))
			helper->type = take(&lines->tokens);
}

static struct nft_chain *find_chain(const struct nft *nft, const char *table, const char *name)
{
	for (size_t i = 0; i < nft->chain_count && import_step(nft->import); i++)
		if (strcmp(nft->chains[i].name, name) == 0 &&
			strcmp(nft->chains[i].table, table) == 0)
			return &nft->chains[i];
	return NULL;
}

static void read_chain(struct nft *nft, struct lines *lines, const char *name)
{
	struct nft_chain *chain = find_chain(nft, nft->table, name); /* a second part of it */

	if (chain == NULL)
		chain = add(nft, &nft->chains, &nft->chain_count, &nft->chain_room, sizeof(*chain));
	if (chain == NULL)
		return;
	chain->table = nft->table;
	chain->name = name;
	while (next_line(lines) && !closes(lines)) {
		const struct tokens *tokens = &lines->tokens;
		if (strcmp(tokens->items[0], "type") == 0 && tokens->count > 3)
			chain->forwards |= strcmp(tokens->items[3], "forward") == 0;
		else if (strcmp(tokens->items[0], "policy") != 0 &&
			strcmp(tokens->items[0], "comment") != 0)
			read_rule(nft, name, lines->number, &lines->tokens);
	}
}

static void skip_block(struct lines *lines)
{
	size_t depth = 1;

	while (depth > 0 && next_line(lines))
		for (size_t i = 0; i < lines->tokens.count; i++) {
			depth += strcmp(lines->tokens.items[i], "{") == 0;
			depth -= strcmp(lines->tokens.items[i], "}") == 0 && depth > 0;
		}
}

static void read_table(struct nft *nft, struct lines *lines)
{
	while (next_line(lines) && !closes(lines)) {
		const char *kind = take(&lines->tokens), *name = take(&lines->tokens);
		bool opens = strcmp(lines->tokens.items[lines->tokens.count - 1], "{") == 0;
		if (strcmp(kind, "chain") == 0)
			read_chain(nft, lines, name);
		else if (strcmp(kind, "set") == 0)
			read_set(nft, lines, name);
		else if (strcmp(kind, "ct") == 0 && strcmp(name, "helper") == 0)
			read_helper(nft, lines, take(&lines->tokens));
		else if (opens)
			skip_block(lines);
	}
}

/* ---- what it means ---- */

static void walk(
	const struct nft *nft, struct nft_chain *chain, const struct match *from, unsigned depth)
{
	chain->busy = true;
	for (size_t i = 0; i < nft->rule_count && import_step(nft->import); i++) {
		const struct nft_rule *rule = &nft->rules[i];
		if (strcmp(rule->table, chain->table) != 0 || strcmp(rule->chain, chain->name) != 0)
			continue;
		struct match both = match_both(nft->import, from, &rule->match);
		if (rule->accepts)
			import_accept(nft->import, rule->line, &both);
		if (rule->drops)
			import_drop(nft->import, rule->line, &both);
		struct nft_chain *next =
			rule->jump == NULL ? NULL : find_chain(nft, chain->table, rule->jump);
		if (next != NULL && !next->busy && depth < IMPORT_DEPTH_MAX) {
			struct match jump = match_jump(nft->import, &both, rule->line);
			walk(nft, next, &jump, depth + 1);
		}
	}
	chain->busy = false;
}

static void read_helper_rules(const struct nft *nft)
{
	for (size_t i = 0; i < nft->rule_count; i++) {
		const struct nft_rule *rule = &nft->rules[i];
		const char *type = rule->sets_helper;
		if (type == NULL)
			continue;
		for (size_t j = 0; j < nft->helper_count; j++)
			if (strcmp(nft->helpers[j].table, rule->table) == 0 &&
				strcmp(nft->helpers[j].name, rule->sets_helper) == 0)
				type = nft->helpers[j].type;
		import_helper_port(
			nft->import, rule->line, type, rule->match.transport, &rule->match);
	}
}

static uint8_t family_of(const char *table) /* "ip filter " */
{
	static const char *const both[] = {"inet ", "bridge ", "netdev ", "arp ", NULL};

	for (size_t i = 0; both[i] != NULL; i++)
		if (strncmp(table, both[i], strlen(both[i])) == 0)
			return ADDR_NONE;
	return strncmp(table, "ip6 ", 4) == 0 ? ADDR_IPV6
					      : ADDR_IPV4; /* ip is what may be left out */
}

enum status nft_read(struct import *import, const char *text, struct error *err)
{
	struct nft nft = {.import = import};
	struct lines *lines = calloc(1, sizeof(*lines));
	const struct match everything = {0};

	if (lines == NULL)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	lines->import = import;
	lines->at = text;
	while (next_line(lines)) {
		if (!take_if(&lines->tokens, "table"))
			continue;
		size_t size = 0;
		char name[160];
		while (lines->tokens.next < lines->tokens.count && size < 100 &&
			strcmp(peek(&lines->tokens), "{") != 0)
			size += (size_t)snprintf(
				name + size, sizeof(name) - size, "%.40s ", take(&lines->tokens));
		nft.table = import_text(import, name, size);
		nft.family = family_of(nft.table);
		read_table(&nft, lines);
	}
	read_helper_rules(&nft);
	for (size_t i = 0; i < nft.chain_count; i++)
		if (nft.chains[i].forwards)
			walk(&nft, &nft.chains[i], &everything, 0);
	free(nft.sets);
	free(nft.helpers);
	free(nft.rules);
	free(nft.chains);
	free(lines);
	return STATUS_OK;
}
