#include "server/document/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define CHUNK_LEAST 4096U
#define CHUNK_MOST (1024U * 1024)
#define ALIGNMENT alignof(max_align_t)

struct arena_chunk {
	struct arena_chunk *next;
	size_t size, used;
	max_align_t memory[];
};

/* Chunks double, so that a small document stays small. */
static struct arena_chunk *add_chunk(struct arena *arena, size_t size)
{
	size_t grown = arena->chunks ? arena->chunks->size * 2 : CHUNK_LEAST;
	if (grown > CHUNK_MOST)
		grown = CHUNK_MOST;
	if (grown < size)
		grown = size;
	struct arena_chunk *chunk = calloc(1, sizeof *chunk + grown);
	if (!chunk)
		return NULL;
	chunk->size = grown;
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	return chunk;
}

void *arena_take(struct arena *arena, size_t size)
{
	struct arena_chunk *chunk = arena->chunks;
	if (size > SIZE_MAX / 2) {
		arena->failed = true;
		return NULL;
	}
	size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (!chunk || chunk->size - chunk->used < size)
		chunk = add_chunk(arena, size);
	if (!chunk) {
		arena->failed = true;
		return NULL;
	}
	void *memory = (char *)chunk->memory + chunk->used;
	chunk->used += size;
	arena->taken += size;
	return memory;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	size_t bytes;
	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	return arena_take(arena, bytes);
}

void arena_fini(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *chunk = arena->chunks;
		arena->chunks = chunk->next;
		free(chunk);
	}
	*arena = (struct arena){0};
}
