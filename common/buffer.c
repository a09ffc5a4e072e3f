#include "common/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SMALLEST_CAPACITY 256

void buffer_init(struct buffer *buffer, size_t cap)
{
	memset(buffer, 0, sizeof(*buffer));
	buffer->cap = cap;
}

void buffer_fini(struct buffer *buffer)
{
	free(buffer->data);
	buffer_init(buffer, buffer->cap);
}

const uint8_t *buffer_bytes(const struct buffer *buffer)
{
	return buffer->data ? buffer->data + buffer->start : NULL;
}

static bool grow(struct buffer *buffer, size_t needed)
{
	size_t capacity = buffer->capacity ? buffer->capacity : SMALLEST_CAPACITY;
	uint8_t *data;

	while (capacity < needed)
		capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
	data = malloc(capacity);
	if (!data)
		return false;
	if (buffer->length)
		memcpy(data, buffer_bytes(buffer), buffer->length);
	free(buffer->data);
	buffer->data = data;
	buffer->start = 0;
	buffer->capacity = capacity;
	return true;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t size)
{
	size_t end = buffer->start + buffer->length;

	if (buffer->length > buffer->cap || size > buffer->cap - buffer->length)
		return NULL;
	if (!buffer->data || size > buffer->capacity - end) {
		/* Moving is cheap only when at least as much was consumed as remains: amortised
		 * O(1) a byte. */
		if (buffer->data && buffer->start >= buffer->length &&
			size <= buffer->capacity - buffer->length) {
			memmove(buffer->data, buffer->data + buffer->start, buffer->length);
			buffer->start = 0;
		} else if (!grow(buffer, buffer->length + size)) {
			return NULL;
		}
	}
	return buffer->data + buffer->start + buffer->length;
}

void buffer_commit(struct buffer *buffer, size_t size)
{
	assert(size <= buffer->capacity - buffer->start - buffer->length);
	buffer->length += size;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t size)
{
	uint8_t *place = buffer_reserve(buffer, size);

	if (!place)
		return false;
	if (size)
		memcpy(place, bytes, size);
	buffer->length += size;
	return true;
}

void buffer_consume(struct buffer *buffer, size_t size)
{
	assert(size <= buffer->length);
	buffer->start += size;
	buffer->length -= size;
	if (buffer->length == 0)
		buffer->start = 0;
}

void buffer_shrink(struct buffer *buffer)
{
	if (buffer->length == 0)
		buffer_fini(buffer);
}
