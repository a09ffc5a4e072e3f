#include "client/cli/import/import.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/message.h"
#include "client/text/text.h"
#include "common/addr.h"

/* ---- what helpers of the kernel follow, and what Postern makes of it ---- */

struct helper {
	const char *name; /* the kernel's */
	uint8_t transport;
	uint16_t port;
	Postern__V1__RemoteScope scope;
	uint32_t max_ports;
	const char *why_not; /* NULL = it can be translated */
};

#define PEER POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER
#define ANY POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY

static const struct helper helpers[] = {
	{"ftp", 6, 21, PEER, 0, NULL},
	{"tftp", 17, 69, PEER, 0, NULL},
	{"sip", 17, 5060, ANY, 2, NULL}, /* media go where the session says */
	{"rtsp", 6, 554, PEER, 2, NULL},
	{"h323", 6, 1720, ANY, 2, NULL},
	{"irc", 6, 6667, ANY, 0, NULL}, /* DCC: between clients */
	{"amanda", 17, 10080, PEER, 0, NULL},
	{"sane", 6, 6566, PEER, 0, NULL},
	{"snmp", 17, 161, PEER, 0, NULL},
	{"netbios-ns", 17, 137, PEER, 0, NULL},
	{"pptp", 6, 1723, PEER, 0, "its data are GRE, neither TCP nor UDP"},
};
#define HELPERS (sizeof(helpers) / sizeof(helpers[0]))

static const struct helper *find_helper(const char *name)
{
	/* conntrack's own names beside the usual ones */
	if (strcmp(name, "RAS") == 0 || strcmp(name, "Q.931") == 0 || strcmp(name, "H.245") == 0)
		name = "h323";
	for (size_t i = 0; i < HELPERS; i++)
		if (strcmp(helpers[i].name, name) == 0)
			return &helpers[i];
	return NULL;
}

bool import_knows_helper(const char *helper)
{
	return find_helper(helper) != NULL;
}

/* ---- memory ---- */

static bool keep(struct import *import, void *memory)
{
	if (import->kept_count == import->kept_room) {
		size_t room = import->kept_room == 0 ? 64 : import->kept_room * 2;
		void *grown = reallocarray(import->kept, room, sizeof(*import->kept));
		if (grown == NULL)
			return false;
		import->kept = grown;
		import->kept_room = room;
	}
	import->kept[import->kept_count++] = memory;
	return true;
}

void *import_keep(struct import *import, size_t size)
{
	void *memory = calloc(1, size);

	if (memory == NULL || !keep(import, memory)) {
		free(memory);
		import->failed = true;
		return NULL;
	}
	return memory;
}

const char *import_text(struct import *import, const char *text, size_t length)
{
	char *copy = import_keep(import, length + 1);

	if (copy == NULL)
		return "";
	memcpy(copy, text, length);
	return copy;
}

void import_fini(struct import *import)
{
	for (size_t i = 0; i < import->kept_count; i++)
		free(import->kept[i]);
	free(import->kept);
	free(import->notes);
	free(import->document.protocols);
	free(import->document.protocol_rules);
	free(import->document.site_and_content_rules);
}

/* As a comment of YAML may have it, which knows no U+FEFF, U+FFFE and U+FFFF. */
static void make_printable(const char *text, char *safe, size_t size)
{
	static const char *const strangers[] = {"\xef\xbb\xbf", "\xef\xbf\xbe", "\xef\xbf\xbf"};

	text_escape(text, strlen(text), safe, size);
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++)
		for (char *at; (at = strstr(safe, strangers[i])) != NULL;)
			memcpy(at, "???", 3);
}

void import_note(struct import *import, size_t line, const char *format, ...)
{
	char text[300], safe[400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	make_printable(text, safe, sizeof(safe));
	if (import->note_count == import->note_room) {
		size_t room = import->note_room == 0 ? 64 : import->note_room * 2;
		void *grown = reallocarray(import->notes, room, sizeof(*import->notes));
		if (grown == NULL) {
			import->failed = true;
			return;
		}
		import->notes = grown;
		import->note_room = room;
	}
	import->notes[import->note_count++] =
		(struct import_note){.line = line, .text = import_text(import, safe, strlen(safe))};
}

/* ---- matches ---- */

void match_add(struct import *import, const char ***list, size_t *count, const char *text)
{
	/* Full at 0 and the powers of two. */
	if ((*count & (*count - 1)) == 0) {
		size_t room = *count == 0 ? 1 : *count * 2;
		const char **grown = import_keep(import, room * sizeof(*grown));
		if (grown == NULL)
			return;
		if (*count > 0)
			memcpy(grown, *list, *count * sizeof(*grown));
		*list = grown;
	}
	if (++import->addresses > IMPORT_ADDRESSES_MAX)
		import->failed = true;
	else
		(*list)[(*count)++] = text;
}

static bool parse_port(const char *text, size_t length, uint16_t *ret_port)
{
	unsigned value = 0;

	if (length == 0 || length > 5)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	*ret_port = (uint16_t)value;
	return value > 0 && value <= UINT16_MAX;
}

bool match_add_ports(struct match *match, const char *text)
{
	size_t split = strcspn(text, ":-");
	uint16_t first, last;

	if (!parse_port(text, split, &first))
		return false;
	last = first;
	if (text[split] != '\0' &&
		(!parse_port(text + split + 1, strlen(text + split + 1), &last) || last < first))
		return false;
	if (match->port_count == IMPORT_PORTS_MAX)
		return false;
	match->ports[match->port_count].first = first;
	match->ports[match->port_count++].last = last;
	return true;
}

void match_unknown(struct import *import, struct match *match, const char *what)
{
	if (match->unknown == NULL)
		match->unknown = import_text(import, what, strlen(what));
}

/* Lists: the one that is given; two would have to be intersected. */
static void both_lists(struct import *import, struct match *both, const char ***list, size_t *count,
	const char **other, size_t other_count, const char *what)
{
	if (other_count == 0)
		return;
	if (*count > 0)
		match_unknown(import, both, what);
	*list = other;
	*count = other_count;
}

/* Exceptions add up. The jump's list is not ours to append to: its other rules have it too. */
static void both_exceptions(struct import *import, const char ***list, size_t *count,
	const char **other, size_t other_count)
{
	const char **first = *list;
	size_t first_count = *count;

	if (other_count == 0)
		return;
	*list = NULL;
	*count = 0;
	for (size_t i = 0; i < first_count; i++)
		match_add(import, list, count, first[i]);
	for (size_t i = 0; i < other_count; i++)
		match_add(import, list, count, other[i]);
}

void match_add_address(
	struct import *import, struct match *match, bool is_source, bool negated, const char *text)
{
	if (text[strspn(text, "0123456789abcdefABCDEF.:/-")] != '\0' || strpbrk(text, ".:") == NULL)
		match_unknown(import, match, text);
	if (is_source && negated)
		match_add(import, &match->not_sources, &match->not_source_count, text);
	else if (is_source)
		match_add(import, &match->sources, &match->source_count, text);
	else if (negated)
		match_add(import, &match->not_destinations, &match->not_destination_count, text);
	else
		match_add(import, &match->destinations, &match->destination_count, text);
}

void match_family(struct import *import, struct match *match, uint8_t family)
{
	if (family == ADDR_NONE)
		return;
	if (match->family != ADDR_NONE && match->family != family)
		match_unknown(import, match, "IPv4 and IPv6 in one");
	match->family = family;
}

struct match match_jump(struct import *import, const struct match *both, size_t line)
{
	struct match jump = *both;

	jump.way = both->jump != 0 ? ++import->ways : 0;
	jump.jump = line;
	return jump;
}

bool import_step(struct import *import)
{
	if (++import->steps > IMPORT_STEPS_MAX)
		import->failed = true;
	return !import->failed;
}

struct match match_both(struct import *import, const struct match *a, const struct match *b)
{
	struct match both = *a;

	both_lists(import, &both, &both.sources, &both.source_count, b->sources, b->source_count,
		"two lists of sources, of a jump and of the chain");
	both_lists(import, &both, &both.destinations, &both.destination_count, b->destinations,
		b->destination_count, "two lists of destinations, of a jump and of the chain");
	both_exceptions(import, &both.not_sources, &both.not_source_count, b->not_sources,
		b->not_source_count);
	both_exceptions(import, &both.not_destinations, &both.not_destination_count,
		b->not_destinations, b->not_destination_count);
	match_family(import, &both, b->family);
	if (both.transport != 0 && b->transport != 0 && both.transport != b->transport)
		match_unknown(import, &both, "a transport that differs from the jump's");
	if (b->transport != 0)
		both.transport = b->transport;
	if (b->port_count > 0) {
		if (both.port_count > 0)
			match_unknown(
				import, &both, "two lists of ports, of a jump and of the chain");
		memcpy(both.ports, b->ports, sizeof(both.ports));
		both.port_count = b->port_count;
	}
	if (b->helper != NULL)
		both.helper = b->helper;
	both.new_flows |= b->new_flows;
	both.related_only |= b->related_only;
	both.old_only |= b->old_only;
	if (b->unknown != NULL)
		match_unknown(import, &both, b->unknown);
	return both;
}

/* ---- the document ---- */

static bool append(struct import *import, void *list, size_t *count, void *message)
{
	void **pointers = *(void **)list;
	void *grown = message == NULL ? NULL : reallocarray(pointers, *count + 1, sizeof(void *));

	if (grown == NULL) {
		import->failed = true;
		return false;
	}
	*(void **)list = grown;
	((void **)grown)[(*count)++] = message;
	return true;
}

/* A chain that is jumped to from several lines has its rules once for each. */
static char *name_of(
	struct import *import, const char *helper, size_t line, const struct match *match)
{
	char name[64];

	if (match->way != 0)
		snprintf(name, sizeof(name), "%s of line %zu, way %zu", helper, line, match->way);
	else if (match->jump != 0)
		snprintf(name, sizeof(name), "%s of line %zu from %zu", helper, line, match->jump);
	else
		snprintf(name, sizeof(name), "%s of line %zu", helper, line);
	return (char *)(uintptr_t)import_text(import, name, strlen(name));
}

static Postern__V1__ProtocolDefinition *define(
	struct import *import, const struct helper *helper, uint8_t transport)
{
	Postern__V1__PolicyDocument *document = &import->document;

	for (size_t i = 0; i < document->n_protocols; i++)
		if (strcmp(document->protocols[i]->name, helper->name) == 0)
			return document->protocols[i];
	Postern__V1__ProtocolDefinition *made = import_keep(import, sizeof(*made));
	uint32_t *ports = import_keep(import, 16 * sizeof(*ports));
	char **secondary = import_keep(import, sizeof(*secondary));
	if (made == NULL || ports == NULL || secondary == NULL ||
		!append(import, &document->protocols, &document->n_protocols, made))
		return NULL;
	postern__v1__protocol_definition__init(made);
	made->name = (char *)(uintptr_t)helper->name;
	made->transport = (Postern__V1__Transport)transport;
	made->primary_ports = ports;
	made->remote_scope = helper->scope;
	made->max_ports = helper->max_ports;
	secondary[0] = (char *)(uintptr_t) "1024-65535";
	made->secondary_ports = secondary;
	made->n_secondary_ports = 1;
	return made;
}

static void define_port(struct import *import, const struct helper *helper, uint8_t transport,
	uint16_t port, size_t line)
{
	Postern__V1__ProtocolDefinition *protocol = define(import, helper, transport);

	if (protocol == NULL)
		return;
	for (size_t i = 0; i < protocol->n_primary_ports; i++)
		if (protocol->primary_ports[i] == port)
			return;
	if (protocol->n_primary_ports == 16)
		import_note(import, line, "more than 16 ports of %s: port %u was left out",
			helper->name, port);
	else
		protocol->primary_ports[protocol->n_primary_ports++] = port;
}

static void propose(
	struct import *import, size_t line, const struct helper *helper, const struct match *match)
{
	Postern__V1__PolicyDocument *document = &import->document;
	Postern__V1__ProtocolRule *rule = import_keep(import, sizeof(*rule));
	Postern__V1__SiteAndContentRule *site = import_keep(import, sizeof(*site));
	char **protocols = import_keep(import, sizeof(*protocols));
	char description[160];
	char **everybody = import_keep(import, sizeof(*everybody));

	if (rule == NULL || site == NULL || protocols == NULL || everybody == NULL ||
		!append(import, &document->protocol_rules, &document->n_protocol_rules, rule) ||
		!append(import, &document->site_and_content_rules,
			&document->n_site_and_content_rules, site))
		return;
	snprintf(description, sizeof(description), "from %.100s, line %zu", import->name, line);
	postern__v1__protocol_rule__init(rule);
	postern__v1__site_and_content_rule__init(site);
	protocols[0] = (char *)(uintptr_t)helper->name;
	rule->name = site->name = name_of(import, helper->name, line, match);
	rule->description = site->description =
		(char *)(uintptr_t)import_text(import, description, strlen(description));
	rule->action = site->action = POSTERN__V1__ACTION__ACTION_ALLOW;
	rule->protocols = protocols;
	rule->n_protocols = 1;
	rule->clients = site->clients = (char **)(uintptr_t)match->sources;
	rule->n_clients = site->n_clients = match->source_count;
	/* Rules of one family accept nothing of the other. */
	if (match->source_count == 0 && match->family != ADDR_NONE) {
		everybody[0] =
			(char *)(uintptr_t)(match->family == ADDR_IPV4 ? "0.0.0.0/0" : "::/0");
		rule->clients = site->clients = everybody;
		rule->n_clients = site->n_clients = 1;
	}
	rule->clients_except = site->clients_except = (char **)(uintptr_t)match->not_sources;
	rule->n_clients_except = site->n_clients_except = match->not_source_count;
	site->destinations = (char **)(uintptr_t)match->destinations;
	site->n_destinations = match->destination_count;
	site->destinations_except = (char **)(uintptr_t)match->not_destinations;
	site->n_destinations_except = match->not_destination_count;
	import->rules++;
}

static bool has_port(const struct match *match, uint16_t port)
{
	for (size_t i = 0; i < match->port_count; i++)
		if (port >= match->ports[i].first && port <= match->ports[i].last)
			return true;
	return false;
}

/* Is this rule about the control connection of the helper's protocol, or what it expects? */
static bool is_about(
	const struct import *import, const struct helper *helper, const struct match *match)
{
	const Postern__V1__PolicyDocument *document = &import->document;

	if (match->helper != NULL)
		return find_helper(match->helper) == helper;
	if (match->transport != 0 && match->transport != helper->transport)
		return false;
	if (has_port(match, helper->port))
		return true;
	for (size_t i = 0; i < document->n_protocols; i++) {
		const Postern__V1__ProtocolDefinition *protocol = document->protocols[i];
		for (size_t j = 0;
			strcmp(protocol->name, helper->name) == 0 && j < protocol->n_primary_ports;
			j++)
			if (has_port(match, (uint16_t)protocol->primary_ports[j]))
				return true;
	}
	return false;
}

/* Why a rule that is about a helper's protocol is not proposed; NULL = it is. */
static const char *why_not(const struct helper *helper, const struct match *match)
{
	if (helper->why_not != NULL)
		return helper->why_not;
	if (match->helper != NULL &&
		(match->source_count > 0 || match->not_source_count > 0 ||
			match->destination_count > 0 || match->not_destination_count > 0))
		return "addresses of an expected connection do not say which side is the client";
	return NULL;
}

void import_accept(struct import *import, size_t line, const struct match *match)
{
	bool found = false;

	if (match->old_only) { /* what is open already */
		import->others++;
		return;
	}
	if (match->helper != NULL && find_helper(match->helper) == NULL) {
		import_note(import, line, "the helper \"%.40s\" is not known here", match->helper);
		return;
	}
	for (size_t i = 0; i < HELPERS; i++) {
		const struct helper *helper = &helpers[i];
		if (!is_about(import, helper, match))
			continue;
		found = true;
		if (why_not(helper, match) != NULL) {
			import_note(import, line, "%s: %s", helper->name, why_not(helper, match));
		} else if (match->unknown != NULL) {
			import_note(import, line, "%s: not understood: %.120s", helper->name,
				match->unknown);
		} else {
			define_port(import, helper, helper->transport, helper->port, line);
			propose(import, line, helper, match);
		}
	}
	if (!found && match->related_only && match->helper == NULL)
		import_note(import, line,
			"accepts whatever any helper expects: Postern opens each such connection "
			"by "
			"itself, so this line is not needed");
	else if (!found && match->transport == 6 && has_port(match, 5060))
		import_note(import, line, "sip over TCP: give it a definition of its own");
	else if (!found)
		import->others++;
}

void import_drop(struct import *import, size_t line, const struct match *match)
{
	bool all = match->source_count == 0 && match->not_source_count == 0 &&
		match->destination_count == 0 && match->not_destination_count == 0 &&
		match->transport == 0 && match->port_count == 0 && match->helper == NULL &&
		!match->new_flows && !match->related_only && !match->old_only &&
		match->unknown == NULL;

	if (!all)
		import_note(import, line,
			"it keeps flows from the lines below; Postern's rules have no order: add a "
			"deny rule if that matters");
}

void import_helper_port(struct import *import, size_t line, const char *name, uint8_t transport,
	const struct match *match)
{
	const struct helper *helper = find_helper(name);

	if (helper == NULL || helper->why_not != NULL) {
		import_note(import, line, "the helper \"%.40s\": %s", name,
			helper == NULL ? "not known here" : helper->why_not);
		return;
	}
	if (match->port_count == 0) {
		import_note(import, line,
			"the helper \"%.40s\" without a port: give the protocol "
			"definition its primary_ports",
			name);
		return;
	}
	for (size_t i = 0; i < match->port_count; i++) {
		if (match->ports[i].first != match->ports[i].last)
			import_note(import, line, "the helper \"%.40s\" on a range of ports", name);
		else
			define_port(import, helper, transport ? transport : helper->transport,
				match->ports[i].first, line);
	}
}

/* ---- reading and writing ---- */

static bool is_iptables(const char *text)
{
	while (*text != '\0') {
		if (*text == '*' || strncmp(text, "-A ", 3) == 0)
			return true;
		if (strncmp(text, "table ", 6) == 0)
			return false;
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return false;
}

enum status import_read(
	struct import *import, const char *name, const char *text, struct error *err)
{
	enum status status;
	char safe[240];

	memset(import, 0, sizeof(*import));
	postern__v1__policy_document__init(&import->document);
	make_printable(name, safe, sizeof(safe));
	import->name = import_text(import, safe, strlen(safe));
	if (is_iptables(text))
		status = iptables_read(import, text, err);
	else if (strstr(text, "table ") != NULL)
		status = nft_read(import, text, err);
	else
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%.120s: neither the output of 'nft list ruleset' nor of 'iptables-save'",
			name);
	if (status == STATUS_OK && import->failed)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"%.120s: out of memory, or more than %d addresses, or chains that are "
			"jumped to "
			"more often than can be followed",
			name, IMPORT_ADDRESSES_MAX);
	return status;
}

bool import_write(const struct import *import, FILE *out)
{
	fprintf(out, "# Proposed from %s: read it before it is applied.\n", import->name);
	fprintf(out, "# %zu rules were translated; %zu have nothing to do with helpers.\n",
		import->rules, import->others);
	if (import->document.n_site_and_content_rules > 1)
		fprintf(out,
			"# Site-and-content rules know no protocol: a client of several rules "
			"reaches the "
			"destinations of all of them.\n");
	for (size_t i = 0; i < import->note_count; i++)
		fprintf(out, "# line %zu was not translated: %s\n", import->notes[i].line,
			import->notes[i].text);
	return message_write_yaml(out, &import->document.base) && ferror(out) == 0;
}
