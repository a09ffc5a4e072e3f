/* What the targets for wire messages share. An input is one packed message, as it comes out of a
 * frame; what message_unpack refuses never reaches a parser. */
#ifndef POSTERN_TESTS_FUZZ_MESSAGE_H
#define POSTERN_TESTS_FUZZ_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/addr.h"
#include "common/error.h"
#include "proto/rpc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void check(bool truth)
{
	if (!truth)
		abort();
}

/* Refusals say what and, of arguments, where. */
static inline void check_refusal(enum status status, const struct error *err)
{
	check(status != STATUS_OK && err->status == status);
	check(memchr(err->text, '\0', sizeof err->text) != NULL && err->text[0] != '\0');
	check(memchr(err->field, '\0', sizeof err->field) != NULL);
	check(status != STATUS_INVALID_ARGUMENT || err->field[0] != '\0');
}

/* As addr_parse makes them: they are compared and hashed as bytes. */
static inline void check_addr(const struct addr *addr)
{
	static const uint8_t zeros[16];
	size_t length = addr_length(addr);
	check(addr->family == ADDR_NONE || addr->family == ADDR_IPV4 || addr->family == ADDR_IPV6);
	check(memcmp(addr->bytes + length, zeros, sizeof addr->bytes - length) == 0);
}

static inline void check_sorted(const struct addr *addrs, size_t count, uint8_t family)
{
	for (size_t i = 0; i < count; i++) {
		check_addr(&addrs[i]);
		check(addrs[i].family == family);
		check(i == 0 || addr_compare(&addrs[i - 1], &addrs[i]) < 0);
	}
}

#endif
