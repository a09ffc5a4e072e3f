/* BLAKE2b-256 of something large, piece by piece: what the journal has of a policy document. */
#ifndef POSTERN_SERVER_JOURNAL_DIGEST_H
#define POSTERN_SERVER_JOURNAL_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32

struct digest { /* must not move between the calls */
	uint8_t state[384 + 63]; /* room to align libsodium's state */
};

void digest_init(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t size);
void digest_end(struct digest *digest, uint8_t ret_hash[static DIGEST_SIZE]);
/* All at once. `bytes` may be NULL when `size` is 0. */
void digest_of(const void *bytes, size_t size, uint8_t ret_hash[static DIGEST_SIZE]);

#endif
