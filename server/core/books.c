/* Where a grant is found: by its id, and by the request that asked for it. */
#include <string.h>

#include "server/core/grant.h"

struct request_key {
	struct id request_id;
	char filter[RECORD_NAME_SIZE];
};

static void fill_key(const char *filter, const struct id *request_id, struct request_key *ret_key)
{
	memset(ret_key, 0, sizeof *ret_key);
	ret_key->request_id = *request_id;
	copy_text(ret_key->filter, sizeof ret_key->filter, filter);
}

static bool match_id(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct grant, by_id)->record.id.bytes, key, size) == 0;
}

static bool match_request(const struct table_node *node, const void *key, size_t size)
{
	const struct grant_record *record = &TABLE_OWNER(node, struct grant, by_request)->record;
	const struct request_key *wanted = key;
	(void)size;
	return id_equal(&record->request_id, &wanted->request_id) &&
		strcmp(record->filter, wanted->filter) == 0;
}

void grants_init(struct core *core)
{
	table_init(&core->grants, match_id);
	table_init(&core->requests, match_request);
}

struct grant *grant_find(const struct core *core, const struct id *id)
{
	struct table_node *node = table_find(&core->grants, id->bytes, sizeof id->bytes);
	return node ? TABLE_OWNER(node, struct grant, by_id) : NULL;
}

struct grant *grant_find_request(
	const struct core *core, const char *filter, const struct id *request_id)
{
	struct request_key key;
	if (id_is_zero(request_id))
		return NULL;
	fill_key(filter, request_id, &key);
	struct table_node *node = table_find(&core->requests, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct grant, by_request) : NULL;
}

bool grant_enter_books(struct grant *grant)
{
	struct core *core = grant->core;
	const struct grant_record *record = &grant->record;
	struct request_key key;
	grant->in_books = table_insert(
		&core->grants, &grant->by_id, record->id.bytes, sizeof record->id.bytes);
	if (!grant->in_books || id_is_zero(&record->request_id))
		return grant->in_books;
	fill_key(record->filter, &record->request_id, &key);
	grant->in_requests = table_insert(&core->requests, &grant->by_request, &key, sizeof key);
	return grant->in_requests;
}

void grant_leave_books(struct grant *grant)
{
	if (grant->in_books)
		table_remove(&grant->core->grants, &grant->by_id);
	if (grant->in_requests)
		table_remove(&grant->core->requests, &grant->by_request);
	grant->in_books = grant->in_requests = false;
}
