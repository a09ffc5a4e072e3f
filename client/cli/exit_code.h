/* Exit codes, in one place: documented in docs/postern.1 and stable. */
#ifndef POSTERN_CLI_EXIT_CODE_H
#define POSTERN_CLI_EXIT_CODE_H

#include "common/error.h"

enum exit_code { /* never renumber */
	EXIT_OK = 0,
	EXIT_OTHER = 1,
	EXIT_USAGE = 2,
	EXIT_DENIED_PROTOCOL_RULES = 10,
	EXIT_DENIED_SITE_AND_CONTENT_RULES = 11,
	EXIT_OUT_OF_SCOPE = 12,
	EXIT_QUOTA = 13,
	EXIT_GATEWAY_DOWN = 14,
	EXIT_DEADLINE = 15,
	EXIT_UNAUTHENTICATED = 16,
	EXIT_EXTERNAL_TAKEN = 17,
	EXIT_NO_SUCH_CONNECTION = 18,
	EXIT_REVISION_CHANGED = 19,
	EXIT_POLICY_TEST_FAILED = 20,
};

struct exit_meaning {
	enum exit_code code;
	const char *meaning; /* NULL ends the table */
};
extern const struct exit_meaning exit_meanings[];

/* The reason decides; the status where there is none. */
enum exit_code exit_code_of(const struct error *err);
/* "denied by protocol rules": how an error's line begins; "" when there is no reason. */
const char *exit_phrase(const struct error *err);

#endif
