/* Sets of clients, destinations and users; sets of sets without cycles. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "server/document/build.h"

/* ---- DNS names (RFC 1123) ---- */

static bool is_label(const char *label, size_t length)
{
	if (length == 0 || length > 63 || label[0] == '-' || label[length - 1] == '-')
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)label[i]) && label[i] != '-' && label[i] != '_')
			return false;
	return true;
}

static bool is_dns_name(const char *text)
{
	size_t length = strlen(text);
	if (length == 0 || length > 253)
		return false;
	for (const char *at = text; *at;) {
		size_t label = strcspn(at, ".");
		if (!is_label(at, label))
			return false;
		at += label;
		if (*at == '.' && *++at == '\0')
			break; /* the root's dot */
	}
	return true;
}

static enum status add_dns_name(
	struct build *build, const char *text, size_t element, struct document_texts *names)
{
	bool memory = false;
	if (!is_dns_name(text))
		return build_element_error(build, "names", element,
			"\"%.63s\" is not a DNS name: addresses belong in `addresses`", text);
	size_t length = strlen(text);
	char *copy = arena_take(build->arena, length + 1);
	if (!copy)
		return build_memory(build);
	for (size_t i = 0; i < length; i++)
		copy[i] = (char)tolower((unsigned char)text[i]);
	if (copy[length - 1] == '.')
		copy[length - 1] = '\0';
	if (!names_find(&build->dns, copy) && build->dns.count >= DOCUMENT_NAMES_MAX)
		return build_element_error(build, "names", element,
			"more than %d different DNS names", DOCUMENT_NAMES_MAX);
	(void)names_add(&build->dns, copy, &memory);
	if (memory)
		return build_memory(build);
	names->items[names->count++] = copy;
	return STATUS_OK;
}

static enum status build_dns_names(
	struct build *build, char **texts, size_t count, struct document_texts *ret_names)
{
	enum status status = STATUS_OK;
	if (count == 0)
		return STATUS_OK;
	ret_names->items = arena_array(build->arena, count, sizeof *ret_names->items);
	if (!ret_names->items)
		return build_memory(build);
	for (size_t i = 0; i < count && !status; i++)
		status = add_dns_name(build, texts[i], i, ret_names);
	return status;
}

/* ---- cycles: depth first, on a stack of our own ---- */

enum mark { UNSEEN, OPEN, DONE };

struct walk {
	const struct document_refs *(*sets_of)(const struct document *document, size_t index);
	const struct document *document;
	uint8_t *marks;
	uint32_t *stack, *next; /* a set, and which of its sets is next */
	size_t depth;
};

/* The sets of a set, one step; true: there is a cycle, closed by the set on top. */
static bool step(struct walk *walk)
{
	uint32_t top = walk->stack[walk->depth - 1];
	const struct document_refs *sets = walk->sets_of(walk->document, top);
	if (walk->next[walk->depth - 1] == sets->count) {
		walk->marks[top] = DONE;
		walk->depth--;
		return false;
	}
	uint32_t child = sets->items[walk->next[walk->depth - 1]++];
	if (walk->marks[child] == OPEN)
		return true;
	if (walk->marks[child] == UNSEEN) {
		walk->marks[child] = OPEN;
		walk->stack[walk->depth] = child;
		walk->next[walk->depth++] = 0;
	}
	return false;
}

static bool has_cycle(struct walk *walk, size_t count, size_t *ret_set, size_t *ret_element)
{
	for (size_t i = 0; i < count; i++) {
		if (walk->marks[i] != UNSEEN)
			continue;
		walk->marks[i] = OPEN;
		walk->stack[0] = (uint32_t)i;
		walk->next[0] = 0;
		walk->depth = 1;
		while (walk->depth > 0) {
			if (step(walk)) {
				*ret_set = walk->stack[walk->depth - 1];
				*ret_element = walk->next[walk->depth - 1] - 1;
				return true;
			}
		}
	}
	return false;
}

static const struct document_refs *of_clients(const struct document *document, size_t index)
{
	return &document->client_sets[index].sets;
}

static const struct document_refs *of_destinations(const struct document *document, size_t index)
{
	return &document->destination_sets[index].sets;
}

static const struct document_refs *of_users(const struct document *document, size_t index)
{
	return &document->user_sets[index].sets;
}

static enum status check_cycles(struct build *build, const char *kind, const struct names *names,
	const struct document_refs *(*sets_of)(const struct document *document, size_t index))
{
	size_t set, element, count = names->count;
	struct walk walk = {.sets_of = sets_of,
		.document = build->document,
		.marks = calloc(count + 1, 1),
		.stack = calloc(count + 1, sizeof *walk.stack),
		.next = calloc(count + 1, sizeof *walk.next)};
	enum status status = STATUS_OK;
	if (!walk.marks || !walk.stack || !walk.next) {
		status = build_memory(build);
	} else if (has_cycle(&walk, count, &set, &element)) {
		const struct document_refs *sets = sets_of(build->document, set);
		build->kind = kind;
		build->index = set;
		build->name = names->items[set].text;
		status = build_element_error(build, "sets", element,
			"a cycle: \"%s\" holds this set itself, directly or by others",
			names->items[sets->items[element]].text);
	}
	free(walk.marks);
	free(walk.stack);
	free(walk.next);
	return status;
}

/* ---- sets ---- */

static enum status name_sets(struct build *build, const char *kind,
	Postern__V1__AddressSet **messages, size_t count, struct names *names)
{
	struct ranges address = {0};
	struct error ignored;
	for (size_t i = 0; i < count; i++) {
		enum status status = build_name(build, kind, i, messages[i]->name, names);
		if (status)
			return status;
		if (ranges_add_text(&address, messages[i]->name, &ignored) == STATUS_OK) {
			ranges_fini(&address);
			return build_error(build, "name",
				"an address is no name: rules would mean the address");
		}
	}
	return STATUS_OK;
}

static enum status build_address_sets(struct build *build, const char *kind,
	Postern__V1__AddressSet **messages, size_t count, const struct names *names,
	struct document_set *sets, size_t *ret_count)
{
	for (size_t i = 0; i < count; i++) {
		const Postern__V1__AddressSet *message = messages[i];
		struct document_set *set = &sets[i];
		build->kind = kind;
		build->index = i;
		build->name = set->name = message->name;
		*ret_count = i + 1; /* what its ranges own is the document's */
		enum status status = build_ranges(build, "addresses", message->addresses,
			message->n_addresses, &set->addresses);
		if (!status)
			status = build_refs(build, "sets", message->sets, message->n_sets, names,
				"such set", &set->sets);
		if (!status)
			status = build_dns_names(
				build, message->names, message->n_names, &set->names);
		if (!status)
			status = build_refs(build, "feeds", message->feeds, message->n_feeds,
				&build->feeds, "feed", &set->feeds);
		if (status)
			return status;
	}
	return STATUS_OK;
}

static enum status build_user_sets(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	struct document *document = build->document;
	for (size_t i = 0; i < message->n_user_sets; i++) {
		const Postern__V1__UserSet *from = message->user_sets[i];
		struct document_user_set *set = &document->user_sets[i];
		build->kind = "user_sets";
		build->index = i;
		build->name = set->name = from->name;
		for (size_t j = 0; j < from->n_users; j++)
			if (from->users[j][0] == '\0' || strlen(from->users[j]) >= RECORD_NAME_SIZE)
				return build_element_error(build, "users", j,
					"a user's name has 1 to %d bytes", RECORD_NAME_SIZE - 1);
		enum status status = build_texts(build, from->users, from->n_users, &set->users);
		if (!status)
			status = build_refs(build, "sets", from->sets, from->n_sets,
				&build->user_sets, "user set", &set->sets);
		if (status)
			return status;
	}
	document->user_set_count = message->n_user_sets;
	return check_cycles(build, "user_sets", &build->user_sets, of_users);
}

static enum status name_user_sets(struct build *build)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < build->message->n_user_sets && !status; i++)
		status = build_name(build, "user_sets", i, build->message->user_sets[i]->name,
			&build->user_sets);
	return status;
}

enum status build_sets(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	struct document *document = build->document;
	enum status status = name_sets(build, "client_sets", message->client_sets,
		message->n_client_sets, &build->client_sets);
	if (!status)
		status = name_sets(build, "destination_sets", message->destination_sets,
			message->n_destination_sets, &build->destination_sets);
	if (!status)
		status = name_user_sets(build);
	if (!status)
		status = build_address_sets(build, "client_sets", message->client_sets,
			message->n_client_sets, &build->client_sets, document->client_sets,
			&document->client_set_count);
	if (!status)
		status = check_cycles(build, "client_sets", &build->client_sets, of_clients);
	if (!status)
		status = build_address_sets(build, "destination_sets", message->destination_sets,
			message->n_destination_sets, &build->destination_sets,
			document->destination_sets, &document->destination_set_count);
	if (!status)
		status = check_cycles(
			build, "destination_sets", &build->destination_sets, of_destinations);
	return status ? status : build_user_sets(build);
}
