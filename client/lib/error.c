/* Errors and names of the public header, which are those of common/error.h under other names. */
#include "common/error.h"

#include <string.h>

#include "client/lib/internal.h"
#include "common/version.h"

_Static_assert(sizeof(struct postern_error) == sizeof(struct error), "same fields");
_Static_assert((int)POSTERN_UNAUTHENTICATED == (int)STATUS_UNAUTHENTICATED, "same numbers");
_Static_assert((int)POSTERN_JOURNAL_UNAVAILABLE == (int)REASON_JOURNAL_UNAVAILABLE, "same numbers");
_Static_assert((int)POSTERN_EXTERNAL_TAKEN == (int)REASON_EXTERNAL_TAKEN, "same numbers");
_Static_assert((int)POSTERN_NO_SUCH_CONNECTION == (int)REASON_NO_SUCH_CONNECTION, "same numbers");

void error_publish(const struct error *err, struct postern_error *ret_err)
{
	ret_err->status = (enum postern_status)err->status;
	ret_err->reason = (enum postern_reason)err->reason;
	memcpy(ret_err->rule, err->rule, sizeof(ret_err->rule));
	memcpy(ret_err->grant, err->grant, sizeof(ret_err->grant));
	memcpy(ret_err->field, err->field, sizeof(ret_err->field));
	ret_err->revision = err->revision;
	memcpy(ret_err->text, err->text, sizeof(ret_err->text));
}

enum postern_status error_give(const struct error *err, struct postern_error *ret_err)
{
	if (ret_err)
		error_publish(err, ret_err);
	return (enum postern_status)err->status;
}

const char *postern_status_name(enum postern_status status)
{
	return status_name((enum status)status);
}

const char *postern_reason_name(enum postern_reason reason)
{
	return reason_name((enum reason)reason);
}

const char *postern_version(void)
{
	return POSTERN_VERSION;
}
