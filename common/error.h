/* The one status type of all programs, and the error struct that carries what a person needs to
 * know. */
#ifndef POSTERN_COMMON_ERROR_H
#define POSTERN_COMMON_ERROR_H

#include <stdarg.h>
#include <stdint.h>

/* gRPC's canonical codes; they travel on the wire and are the public API's: never renumber. */
enum status {
	STATUS_OK = 0,
	STATUS_CANCELLED = 1,
	STATUS_UNKNOWN = 2,
	STATUS_INVALID_ARGUMENT = 3,
	STATUS_DEADLINE_EXCEEDED = 4,
	STATUS_NOT_FOUND = 5,
	STATUS_ALREADY_EXISTS = 6,
	STATUS_PERMISSION_DENIED = 7,
	STATUS_RESOURCE_EXHAUSTED = 8,
	STATUS_FAILED_PRECONDITION = 9,
	STATUS_ABORTED = 10,
	STATUS_OUT_OF_RANGE = 11,
	STATUS_UNIMPLEMENTED = 12,
	STATUS_INTERNAL = 13,
	STATUS_UNAVAILABLE = 14,
	STATUS_DATA_LOSS = 15,
	STATUS_UNAUTHENTICATED = 16,
};

/* Why, for programs. Equals ErrorReason of frame.proto: never renumber. */
enum reason {
	REASON_NONE = 0,
	REASON_DENIED_PROTOCOL_RULES = 1,
	REASON_DENIED_SITE_AND_CONTENT_RULES = 2,
	REASON_OUT_OF_SCOPE = 3,
	REASON_QUOTA = 4,
	REASON_NO_SUCH_GATEWAY = 5,
	REASON_GATEWAY_DOWN = 6,
	REASON_GATEWAY_REFUSED = 7,
	REASON_DEADLINE = 8,
	REASON_ALREADY_ENDED = 9,
	REASON_JOURNAL_UNAVAILABLE = 10,
	REASON_EXTERNAL_TAKEN = 11,
	REASON_NO_SUCH_CONNECTION = 12,
	REASON_REVISION_CHANGED = 13,
	REASON_POLICY_TEST_FAILED = 14,
	REASON_SOURCE_UNAVAILABLE = 15,
};

/* Owned by the caller, filled where the fact is known, no heap. All strings are NUL-terminated and
 * may be empty. */
struct error {
	enum status status;
	enum reason reason;
	char rule[64]; /* name of the rule that decided */
	char grant[40]; /* id of the journalled (denied, failed) grant */
	char field[96]; /* offending field of a request: "protocol_rules[3].clients[0]" */
	uint64_t revision; /* of the policy document that decided, 0 = none did */
	char text[320]; /* what, where, and what to do instead */
};

/* Fills `err` (may be NULL) and returns `status`, so that a failing function ends with `return
 * error_set(...)`. */
enum status error_set(struct error *err, enum status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with a machine-readable reason. */
enum status error_reason(struct error *err, enum status status, enum reason reason,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same for one field of a request: status INVALID_ARGUMENT. */
enum status error_field(struct error *err, const char *field, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends ": strerror(errnum)". */
enum status error_errno(struct error *err, enum status status, int errnum, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

const char *status_name(enum status status); /* "INVALID_ARGUMENT" */
const char *reason_name(enum reason reason); /* "DENIED_PROTOCOL_RULES", "" for none */

#endif
