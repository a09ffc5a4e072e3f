/* What a document says about the world outside it: registered protocols, gateways, filters. */
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "server/document/arena.h"
#include "server/document/document.h"
#include "server/document/names.h"

static enum status refuse(struct error *err, const char *path, const char *owner, const char *what,
	const char *name, const char *nearest, const char *instead)
{
	char suggestion[100];
	if (nearest)
		snprintf(suggestion, sizeof suggestion, "did you mean \"%s\"?", nearest);
	else
		snprintf(suggestion, sizeof suggestion, "%s", instead);
	return error_field(err, path, "%s (\"%s\"): no %s is called \"%.63s\": %s", path, owner,
		what, name, suggestion);
}

/* The nearest protocol of the document, or of the world. */
static const char *nearest_protocol(
	const struct document *document, const struct document_world *world, const char *name)
{
	const char *best = NULL, *pair[3] = {NULL, NULL, NULL};
	if (world->nearest_protocol)
		best = world->nearest_protocol(world->arg, name);
	for (size_t i = 0; i < document->protocol_count; i++) {
		pair[0] = document->protocols[i].record.name;
		pair[1] = best;
		best = nearest_word(name, pair);
	}
	return best;
}

static enum status check_protocols(const struct document *document,
	const struct document_world *world, const struct names *own,
	const struct document_texts *names, const char *place, const char *field, const char *owner,
	struct error *err)
{
	char path[96];
	for (size_t i = 0; i < names->count; i++) {
		if (names_find(own, names->items[i]) ||
			world->has_protocol(world->arg, names->items[i]))
			continue;
		snprintf(path, sizeof path, "%s.%s[%zu]", place, field, i);
		return refuse(err, path, owner, "protocol", names->items[i],
			nearest_protocol(document, world, names->items[i]),
			"define it under `protocols`, or see `postern protocol list`");
	}
	return STATUS_OK;
}

static enum status check_gateways(const struct document_world *world,
	const struct document_texts *names, const char *place, const char *owner, struct error *err)
{
	char path[96];
	for (size_t i = 0; i < names->count; i++) {
		if (world->has_gateway(world->arg, names->items[i]))
			continue;
		snprintf(path, sizeof path, "%s.gateways[%zu]", place, i);
		return refuse(err, path, owner, "gateway", names->items[i],
			world->nearest_gateway ? world->nearest_gateway(world->arg, names->items[i])
					       : NULL,
			"add it first with `postern gateway add`");
	}
	return STATUS_OK;
}

static enum status check_rule(const struct document *document, const struct document_world *world,
	const struct names *own, size_t index, struct error *err)
{
	const struct document_rule *rule = &document->rules[index];
	bool is_protocol = rule->type == RULE_TYPE_PROTOCOL;
	char place[48];
	snprintf(place, sizeof place, "%s[%zu]",
		is_protocol ? "protocol_rules" : "site_and_content_rules",
		is_protocol ? index : index - document->protocol_rule_count);
	enum status status = check_protocols(
		document, world, own, &rule->protocols, place, "protocols", rule->name, err);
	if (!status)
		status = check_protocols(document, world, own, &rule->protocols_except, place,
			"protocols_except", rule->name, err);
	return status ? status : check_gateways(world, &rule->gateways, place, rule->name, err);
}

static enum status check_all(const struct document *document, const struct document_world *world,
	const struct names *own, struct error *err)
{
	char path[48];
	enum status status = STATUS_OK;
	for (size_t i = 0; i < document->rule_count && !status; i++)
		status = check_rule(document, world, own, i, err);
	for (size_t i = 0; i < document->limit_count && !status; i++) {
		const char *filter = document->limits[i].filter;
		if (world->has_filter(world->arg, filter))
			continue;
		snprintf(path, sizeof path, "filters[%zu].filter", i);
		status = refuse(err, path, filter, "filter", filter, NULL,
			"add it first with `postern filter add`");
	}
	return status;
}

enum status document_check_world(
	const struct document *document, const struct document_world *world, struct error *err)
{
	struct arena arena = {0};
	struct names own; /* the protocols that the document defines */
	bool is_short = !names_init(&own, &arena, document->protocol_count);
	for (size_t i = 0; i < document->protocol_count && !is_short; i++)
		(void)names_add(&own, document->protocols[i].record.name, &is_short);
	enum status status = is_short
		? error_set(err, STATUS_RESOURCE_EXHAUSTED,
			  "the server is out of memory for this policy document")
		: check_all(document, world, &own, err);
	names_fini(&own);
	arena_fini(&arena);
	return status;
}
