#include "server/grants/line.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/record.h"

enum { KEY_SIZE = 17 + 17 + 2 + 2 + 1 };

struct line {
	struct table_node node;
	struct line_place *first, *last;
	uint8_t key[KEY_SIZE];
};

static void key_of(const struct line_key *from, uint8_t key[static KEY_SIZE])
{
	key[0] = from->from.family;
	memcpy(key + 1, from->from.bytes, 16);
	key[17] = from->to.addr.family;
	memcpy(key + 18, from->to.addr.bytes, 16);
	key[34] = (uint8_t)(from->to.port >> 8);
	key[35] = (uint8_t)from->to.port;
	key[36] = (uint8_t)(from->to_port_last >> 8);
	key[37] = (uint8_t)from->to_port_last;
	key[38] = from->transport;
}

struct line_key grant_line_key(const struct grant_record *grant)
{
	struct line_key key = {.transport = grant->transport};
	if (grant->inbound) {
		key.from = grant->remote.addr;
		key.to = (struct endpoint){.addr = grant->client, .port = grant->client_port};
	} else {
		key.from = grant->client;
		key.to = grant->remote;
		key.to_port_last = grant->remote_port_last;
	}
	return key;
}

bool line_key_equal(const struct line_key *a, const struct line_key *b)
{
	uint8_t one[KEY_SIZE], other[KEY_SIZE];
	key_of(a, one);
	key_of(b, other);
	return memcmp(one, other, KEY_SIZE) == 0;
}

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct line, node)->key, key, size) == 0;
}

void lines_init(struct lines *lines)
{
	table_init(&lines->table, match);
}

void lines_fini(struct lines *lines)
{
	table_fini(&lines->table);
}

static struct line *line_of(struct lines *lines, const uint8_t key[static KEY_SIZE])
{
	struct table_node *node = table_find(&lines->table, key, KEY_SIZE);
	if (node)
		return TABLE_OWNER(node, struct line, node);
	struct line *line = calloc(1, sizeof *line);
	if (!line)
		return NULL;
	memcpy(line->key, key, KEY_SIZE);
	if (table_insert(&lines->table, &line->node, key, KEY_SIZE))
		return line;
	free(line);
	return NULL;
}

bool line_join(struct lines *lines, const struct line_key *from, struct line_place *place)
{
	uint8_t key[KEY_SIZE];
	key_of(from, key);
	struct line *line = line_of(lines, key);
	if (!line)
		return false;
	place->line = line;
	place->next = NULL;
	place->previous = line->last;
	*(line->last ? &line->last->next : &line->first) = place;
	line->last = place;
	return true;
}

bool line_is_first(const struct line_place *place)
{
	return place->line && place->line->first == place;
}

static void unlink_place(struct line *line, struct line_place *place)
{
	*(place->previous ? &place->previous->next : &line->first) = place->next;
	*(place->next ? &place->next->previous : &line->last) = place->previous;
}

void line_promote(struct line_place *place)
{
	struct line *line = place->line;
	if (!line || line->first == place)
		return;
	unlink_place(line, place);
	place->previous = NULL;
	place->next = line->first;
	line->first->previous = place;
	line->first = place;
}

struct line_place *line_leave(struct lines *lines, struct line_place *place)
{
	struct line *line = place->line;
	if (!line)
		return NULL;
	bool was_first = line->first == place;
	unlink_place(line, place);
	memset(place, 0, sizeof *place);
	if (!line->first) {
		table_remove(&lines->table, &line->node);
		free(line);
		return NULL;
	}
	return was_first ? line->first : NULL;
}
