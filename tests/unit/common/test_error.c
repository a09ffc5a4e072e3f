#include "common/error.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(error, set_fills_and_returns)
{
	struct error err;

	memset(&err, 0xff, sizeof(err));
	cr_assert_eq(error_set(&err, STATUS_NOT_FOUND, "grant %s: %d", "x", 7), STATUS_NOT_FOUND);
	cr_assert_eq(err.status, STATUS_NOT_FOUND);
	cr_assert_eq(err.reason, REASON_NONE);
	cr_assert_str_eq(err.text, "grant x: 7");
	cr_assert_str_eq(err.rule, "");
	cr_assert_str_eq(err.grant, "");
	cr_assert_str_eq(err.field, "");
}

Test(error, null_is_accepted)
{
	cr_assert_eq(error_set(NULL, STATUS_INTERNAL, "x"), STATUS_INTERNAL);
	cr_assert_eq(error_field(NULL, "f", "x"), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(error_errno(NULL, STATUS_UNAVAILABLE, EIO, "x"), STATUS_UNAVAILABLE);
}

Test(error, arguments_may_point_into_it)
{
	struct error err;

	error_set(&err, STATUS_UNAVAILABLE, "inner");
	error_set(&err, STATUS_INTERNAL, "outer: %s", err.text);
	cr_assert_str_eq(err.text, "outer: inner");
	error_field(&err, "remote", "bad");
	error_field(&err, err.field, "again: %s", err.text);
	cr_assert_str_eq(err.field, "remote");
	cr_assert_str_eq(err.text, "again: bad");
}

Test(error, reason_field_and_errno)
{
	struct error err;

	error_reason(&err, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, "gw1 is not connected");
	cr_assert_eq(err.reason, REASON_GATEWAY_DOWN);
	cr_assert_eq(error_field(&err, "remote_port", "0"), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "remote_port");
	error_errno(&err, STATUS_NOT_FOUND, ENOENT, "open %s", "f");
	cr_assert_str_eq(err.text, "open f: No such file or directory");
}

Test(error, long_text_is_cut)
{
	struct error err;
	char big[1000];

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	error_set(&err, STATUS_INTERNAL, "%s", big);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
	error_errno(&err, STATUS_INTERNAL, EIO, "%s", big);
	cr_assert_eq(strlen(err.text), sizeof(err.text) - 1);
	error_field(&err, big, "x");
	cr_assert_eq(strlen(err.field), sizeof(err.field) - 1);
}

Test(error, every_number_has_a_name)
{
	for (int i = STATUS_OK; i <= STATUS_UNAUTHENTICATED; i++)
		cr_assert(i == STATUS_UNKNOWN || strcmp(status_name((enum status)i), "UNKNOWN"));
	cr_assert_str_eq(status_name((enum status)99), "UNKNOWN");
	for (int i = REASON_DENIED_PROTOCOL_RULES; i <= REASON_JOURNAL_UNAVAILABLE; i++)
		cr_assert_neq(*reason_name((enum reason)i), '\0');
	cr_assert_str_eq(reason_name(REASON_NONE), "");
	cr_assert_str_eq(reason_name((enum reason)99), "");
}
