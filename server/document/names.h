/* The names of one kind of a document's parts, and where each stands. */
#ifndef POSTERN_SERVER_DOCUMENT_NAMES_H
#define POSTERN_SERVER_DOCUMENT_NAMES_H

#include "common/table.h"

struct arena;
struct name {
	struct table_node node;
	const char *text;
	size_t index;
};
struct names {
	struct table table;
	struct name *items;
	size_t count;
};

/* For at most `most` names, in `arena`. False: memory. */
bool names_init(struct names *names, struct arena *arena, size_t most);
void names_fini(struct names *names);
/* NULL when it is new and was added; else the one that is there. `*ret_memory`: memory was out. */
const struct name *names_add(struct names *names, const char *text, bool *ret_memory);
const struct name *names_find(const struct names *names, const char *text);
/* The nearest one, for people; NULL when none is near. A walk over all: for errors only. */
const char *names_nearest(const struct names *names, const char *text);

#endif
