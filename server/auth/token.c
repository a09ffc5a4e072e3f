#include "server/auth/token.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

void token_new(const char *role, char text[static TOKEN_TEXT_SIZE])
{
	uint8_t secret[32];
	char encoded[sodium_base64_ENCODED_LEN(
		sizeof secret, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
	randombytes_buf(secret, sizeof secret);
	sodium_bin2base64(encoded, sizeof encoded, secret, sizeof secret,
		sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	snprintf(text, TOKEN_TEXT_SIZE, "pst_%.16s_%s", role, encoded);
	sodium_memzero(secret, sizeof secret);
	sodium_memzero(encoded, sizeof encoded);
}

void token_hash(const char *text, uint8_t hash[static TOKEN_HASH_SIZE])
{
	crypto_generichash(hash, TOKEN_HASH_SIZE, (const uint8_t *)text, strlen(text), NULL, 0);
}

void token_wipe(char text[static TOKEN_TEXT_SIZE])
{
	sodium_memzero(text, TOKEN_TEXT_SIZE);
}
