/* 128-bit ids (UUIDv7, RFC 9562): of grants, sessions, requests; ordered by time of birth. */
#ifndef POSTERN_COMMON_ID_H
#define POSTERN_COMMON_ID_H

#include <stdbool.h>
#include <stdint.h>

#define ID_TEXT_SIZE 37

struct id {
	uint8_t bytes[16];
};

/* A new UUIDv7; strictly increasing within the process; safe from any thread. */
struct id id_new(void);
/* The id of the index-th part of `whole`: always the same (UUIDv8: BLAKE2b-128 of the id and the
 * index). */
struct id id_derive(const struct id *whole, uint8_t index);
void id_format(const struct id *id, char text[static ID_TEXT_SIZE]); /* lower-case, with dashes */
/* Accepts any UUID text with dashes, either case. False (and *ret_id untouched) otherwise. */
bool id_parse(const char *text, struct id *ret_id);
bool id_equal(const struct id *a, const struct id *b);
bool id_is_zero(const struct id *id);

#endif
