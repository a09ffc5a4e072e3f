/* A growable byte buffer with a cap: bytes are appended at the end and consumed from the front. */
#ifndef POSTERN_COMMON_BUFFER_H
#define POSTERN_COMMON_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialised = empty with no cap set; use buffer_init. */
struct buffer {
	uint8_t *data; /* first unread byte is data[start] */
	size_t start;
	size_t length; /* unread bytes */
	size_t capacity;
	size_t cap; /* never holds more unread bytes than this */
};

void buffer_init(struct buffer *buffer, size_t cap);
void buffer_fini(struct buffer *buffer);
const uint8_t *buffer_bytes(const struct buffer *buffer);
/* Room for `size` more bytes at the returned place; NULL when the cap or memory forbids it. Follow
 * with buffer_commit. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t size);
void buffer_commit(struct buffer *buffer, size_t size);
bool buffer_append(struct buffer *buffer, const void *bytes, size_t size);
void buffer_consume(struct buffer *buffer, size_t size);
/* Gives memory back when empty. */
void buffer_shrink(struct buffer *buffer);

#endif
