#include "server/store/record.h"

#include <stdlib.h>
#include <string.h>

static void *copy_bytes(const void *from, size_t size)
{
	void *copy = size ? malloc(size) : NULL;
	if (copy)
		memcpy(copy, from, size);
	return copy;
}

bool grant_record_copy(struct grant_record *to, const struct grant_record *from)
{
	struct grant_record copy = *from;
	copy.context = copy_bytes(from->context, from->context_size);
	copy.remotes = copy_bytes(from->remotes, from->remote_count * sizeof *from->remotes);
	bool whole = (copy.context || !from->context_size) && (copy.remotes || !from->remote_count);
	if (!whole)
		grant_record_fini(&copy);
	*to = copy;
	return whole;
}

void grant_record_fini(struct grant_record *record)
{
	free(record->context);
	free(record->remotes);
	record->context = NULL;
	record->context_size = 0;
	record->remotes = NULL;
	record->remote_count = 0;
}
