#include <criterion/criterion.h>
#include <string.h>

#include "client/cli/exit_code.h"

struct row {
	enum status status;
	enum reason reason;
	int code;
};

/* Stable: scripts rely on these. */
static const struct row rows[] = {
	{STATUS_OK, REASON_NONE, 0},
	{STATUS_PERMISSION_DENIED, REASON_DENIED_PROTOCOL_RULES, 10},
	{STATUS_PERMISSION_DENIED, REASON_DENIED_SITE_AND_CONTENT_RULES, 11},
	{STATUS_PERMISSION_DENIED, REASON_OUT_OF_SCOPE, 12},
	{STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, 13},
	{STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, 14},
	{STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE, 15},
	{STATUS_DEADLINE_EXCEEDED, REASON_NONE, 15},
	{STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, 17},
	{STATUS_FAILED_PRECONDITION, REASON_NO_SUCH_CONNECTION, 18},
	{STATUS_UNAUTHENTICATED, REASON_NONE, 16},
	{STATUS_INVALID_ARGUMENT, REASON_NONE, 2},
	{STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY, 1},
	{STATUS_FAILED_PRECONDITION, REASON_GATEWAY_REFUSED, 1},
	{STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, 1},
	{STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, 1},
	{STATUS_UNAVAILABLE, REASON_NONE, 1},
	{STATUS_PERMISSION_DENIED, REASON_NONE, 1},
	{STATUS_DATA_LOSS, REASON_NONE, 1},
	{(enum status)99, (enum reason)99, 1},
};

Test(exit_code, mapping)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct error err = {.status = rows[i].status, .reason = rows[i].reason};

		cr_assert_eq((int)exit_code_of(&err), rows[i].code, "row %zu", i);
	}
}

Test(exit_code, every_code_has_a_meaning_once)
{
	unsigned seen = 0;

	for (const struct exit_meaning *m = exit_meanings; m->meaning != NULL; m++) {
		cr_assert_not(seen & 1u << m->code);
		seen |= 1u << m->code;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert(seen & 1u << rows[i].code);
}
