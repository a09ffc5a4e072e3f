#include "server/journal/digest.h"

#include <assert.h>
#include <sodium.h>

static_assert(DIGEST_SIZE == crypto_generichash_BYTES, "documents are hashed by BLAKE2b-256");
static_assert(sizeof(crypto_generichash_state) + _Alignof(crypto_generichash_state) - 1 <=
		sizeof(struct digest),
	"the state fits wherever the digest lies");

static crypto_generichash_state *state_of(struct digest *digest)
{
	uintptr_t mask = _Alignof(crypto_generichash_state) - 1;
	return (crypto_generichash_state *)(((uintptr_t)digest->state + mask) & ~mask);
}

void digest_init(struct digest *digest)
{
	crypto_generichash_init(state_of(digest), NULL, 0, DIGEST_SIZE);
}

void digest_add(struct digest *digest, const void *bytes, size_t size)
{
	crypto_generichash_update(state_of(digest), bytes, size);
}

void digest_end(struct digest *digest, uint8_t ret_hash[static DIGEST_SIZE])
{
	crypto_generichash_final(state_of(digest), ret_hash, DIGEST_SIZE);
}

void digest_of(const void *bytes, size_t size, uint8_t ret_hash[static DIGEST_SIZE])
{
	crypto_generichash(ret_hash, DIGEST_SIZE, bytes, size, NULL, 0);
}
