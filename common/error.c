#include "common/error.h"

#include <stdio.h>
#include <string.h>

/* Formats before it touches *err: the arguments may point into it (`"...: %s", err->text`). */
static __attribute__((format(printf, 3, 0))) void fill(
	struct error *err, enum status status, const char *format, va_list args)
{
	char text[sizeof(err->text)];

	if (!err)
		return;
	vsnprintf(text, sizeof(text), format, args);
	memset(err, 0, sizeof(*err));
	err->status = status;
	memcpy(err->text, text, sizeof(text));
}

enum status error_set(struct error *err, enum status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, status, format, args);
	va_end(args);
	return status;
}

enum status error_reason(
	struct error *err, enum status status, enum reason reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fill(err, status, format, args);
	va_end(args);
	if (err)
		err->reason = reason;
	return status;
}

enum status error_field(struct error *err, const char *field, const char *format, ...)
{
	char name[sizeof(err->field)];
	va_list args;

	snprintf(name, sizeof(name), "%s", field);
	va_start(args, format);
	fill(err, STATUS_INVALID_ARGUMENT, format, args);
	va_end(args);
	if (err)
		memcpy(err->field, name, sizeof(name));
	return STATUS_INVALID_ARGUMENT;
}

enum status error_errno(struct error *err, enum status status, int errnum, const char *format, ...)
{
	char cause[128];
	size_t used;
	va_list args;

	va_start(args, format);
	fill(err, status, format, args);
	va_end(args);
	if (err) {
		used = strlen(err->text);
		snprintf(err->text + used, sizeof(err->text) - used, ": %s",
			strerror_r(errnum, cause, sizeof(cause)));
	}
	return status;
}

const char *status_name(enum status status)
{
	switch (status) {
	case STATUS_OK:
		return "OK";
	case STATUS_CANCELLED:
		return "CANCELLED";
	case STATUS_UNKNOWN:
		return "UNKNOWN";
	case STATUS_INVALID_ARGUMENT:
		return "INVALID_ARGUMENT";
	case STATUS_DEADLINE_EXCEEDED:
		return "DEADLINE_EXCEEDED";
	case STATUS_NOT_FOUND:
		return "NOT_FOUND";
	case STATUS_ALREADY_EXISTS:
		return "ALREADY_EXISTS";
	case STATUS_PERMISSION_DENIED:
		return "PERMISSION_DENIED";
	case STATUS_RESOURCE_EXHAUSTED:
		return "RESOURCE_EXHAUSTED";
	case STATUS_FAILED_PRECONDITION:
		return "FAILED_PRECONDITION";
	case STATUS_ABORTED:
		return "ABORTED";
	case STATUS_OUT_OF_RANGE:
		return "OUT_OF_RANGE";
	case STATUS_UNIMPLEMENTED:
		return "UNIMPLEMENTED";
	case STATUS_INTERNAL:
		return "INTERNAL";
	case STATUS_UNAVAILABLE:
		return "UNAVAILABLE";
	case STATUS_DATA_LOSS:
		return "DATA_LOSS";
	case STATUS_UNAUTHENTICATED:
		return "UNAUTHENTICATED";
	}
	return "UNKNOWN"; /* a number from a newer peer */
}

const char *reason_name(enum reason reason)
{
	switch (reason) {
	case REASON_NONE:
		return "";
	case REASON_DENIED_PROTOCOL_RULES:
		return "DENIED_PROTOCOL_RULES";
	case REASON_DENIED_SITE_AND_CONTENT_RULES:
		return "DENIED_SITE_AND_CONTENT_RULES";
	case REASON_OUT_OF_SCOPE:
		return "OUT_OF_SCOPE";
	case REASON_QUOTA:
		return "QUOTA";
	case REASON_NO_SUCH_GATEWAY:
		return "NO_SUCH_GATEWAY";
	case REASON_GATEWAY_DOWN:
		return "GATEWAY_DOWN";
	case REASON_GATEWAY_REFUSED:
		return "GATEWAY_REFUSED";
	case REASON_DEADLINE:
		return "DEADLINE";
	case REASON_ALREADY_ENDED:
		return "ALREADY_ENDED";
	case REASON_JOURNAL_UNAVAILABLE:
		return "JOURNAL_UNAVAILABLE";
	case REASON_EXTERNAL_TAKEN:
		return "EXTERNAL_TAKEN";
	case REASON_NO_SUCH_CONNECTION:
		return "NO_SUCH_CONNECTION";
	case REASON_REVISION_CHANGED:
		return "REVISION_CHANGED";
	case REASON_POLICY_TEST_FAILED:
		return "POLICY_TEST_FAILED";
	case REASON_SOURCE_UNAVAILABLE:
		return "SOURCE_UNAVAILABLE";
	}
	return ""; /* a number from a newer peer */
}
