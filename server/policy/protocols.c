#include "server/policy/protocols.h"

#include <stdlib.h>
#include <string.h>

static bool match_name(const struct table_node *node, const void *key, size_t size)
{
	const char *name = TABLE_OWNER(node, struct registered, by_name)->record.name;
	return strlen(name) == size && memcmp(name, key, size) == 0;
}

static bool match_guid(const struct table_node *node, const void *key, size_t size)
{
	const struct registered *registered = TABLE_OWNER(node, struct registered, by_guid);
	return memcmp(registered->record.guid.bytes, key, size) == 0;
}

void protocols_init(struct protocols *protocols)
{
	memset(protocols, 0, sizeof *protocols);
	table_init(&protocols->by_name, match_name);
	table_init(&protocols->by_guid, match_guid);
	protocols->end = &protocols->first;
}

void protocols_fini(struct protocols *protocols)
{
	for (struct registered *registered = protocols->first, *next; registered;
		registered = next) {
		next = registered->next;
		free(registered);
	}
	table_fini(&protocols->by_name);
	table_fini(&protocols->by_guid);
	protocols->first = NULL;
	protocols->end = &protocols->first;
	protocols->count = 0;
}

bool protocols_add(struct protocols *protocols, const struct protocol_record *protocol)
{
	struct registered *registered = calloc(1, sizeof *registered);
	if (!registered)
		return false;
	registered->record = *protocol;
	if (!table_insert(&protocols->by_name, &registered->by_name, protocol->name,
		    strlen(protocol->name))) {
		free(registered);
		return false;
	}
	if (!table_insert(&protocols->by_guid, &registered->by_guid, protocol->guid.bytes,
		    sizeof protocol->guid.bytes)) {
		table_remove(&protocols->by_name, &registered->by_name);
		free(registered);
		return false;
	}
	*protocols->end = registered;
	protocols->end = &registered->next;
	protocols->count++;
	return true;
}

const struct protocol_record *protocols_find(
	const struct protocols *protocols, const char *name_or_guid)
{
	struct id guid;
	struct table_node *node =
		table_find(&protocols->by_name, name_or_guid, strlen(name_or_guid));
	if (node)
		return &TABLE_OWNER(node, struct registered, by_name)->record;
	if (!id_parse(name_or_guid, &guid))
		return NULL;
	node = table_find(&protocols->by_guid, guid.bytes, sizeof guid.bytes);
	return node ? &TABLE_OWNER(node, struct registered, by_guid)->record : NULL;
}

bool protocol_is_open_to(const struct protocol_record *protocol, const char *filter)
{
	return protocol->shared || strcmp(protocol->owner, filter) == 0;
}

enum status protocol_not_shared(const struct protocol_record *protocol, struct error *err)
{
	return error_field(err, "protocol",
		"protocol: %s belongs to filter %s, which does not share it: register one of your "
		"own",
		protocol->name, protocol->owner);
}
