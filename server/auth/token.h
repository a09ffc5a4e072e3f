/* Tokens: what a peer shows to say who it is. Stored only as hashes. */
#ifndef POSTERN_SERVER_AUTH_TOKEN_H
#define POSTERN_SERVER_AUTH_TOKEN_H

#include <stdint.h>

#define TOKEN_TEXT_SIZE 80
#define TOKEN_HASH_SIZE 32

/* "pst_ROLE_" and 43 characters of base64url: 256 random bits. */
void token_new(const char *role, char text[static TOKEN_TEXT_SIZE]);
/* BLAKE2b-256 of the text. A token is random: neither salt nor slowness would add anything. */
void token_hash(const char *text, uint8_t hash[static TOKEN_HASH_SIZE]);
void token_wipe(char text[static TOKEN_TEXT_SIZE]);

#endif
