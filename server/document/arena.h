/* Memory that is given back as a whole: a document and everything in it. */
#ifndef POSTERN_SERVER_DOCUMENT_ARENA_H
#define POSTERN_SERVER_DOCUMENT_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;
struct arena {
	struct arena_chunk *chunks;
	size_t taken; /* in all */
	bool failed; /* memory was out once */
};

void *arena_take(struct arena *arena, size_t size); /* zeroed; NULL: out of memory */
void *arena_array(struct arena *arena, size_t count, size_t size); /* also for overflow */
void arena_fini(struct arena *arena);

#endif
