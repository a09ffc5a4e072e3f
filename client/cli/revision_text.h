/* How revisions, what they change and verdicts are told to people. */
#ifndef POSTERN_CLI_REVISION_TEXT_H
#define POSTERN_CLI_REVISION_TEXT_H

#include "client/cli/cli.h"
#include "postern/v1/revisions.pb-c.h"

/* The answer to apply and rollback. */
void revision_print_applied(struct cli *cli, const Postern__V1__ApplyReply *reply, bool dry_run);
/* "in force", "in force, rolled back unless confirmed by 18:05:00", "document of revision 3" */
void revision_tell_state(const Postern__V1__Revision *revision, char *text, size_t size);
/* "# revision 3, by admin, 2026-11-24 18:00:00: message": a comment above its document. */
void revision_print_comment(FILE *out, const Postern__V1__Revision *revision);

/* What differs: to people as paragraphs, for programs an object each. False: memory, or the output
 * is broken. */
bool revision_print_diff(struct cli *cli, const ProtobufCMessage *before,
	const ProtobufCMessage *after, size_t *ret_changes);

/* "allowed by rule "a" and site rule "b"", "denied by protocol rules: no rule allows" */
void verdict_tell(const Postern__V1__Verdict *verdict, char *text, size_t size);
/* A verdict that denies, as the error that a request for a grant would have got. */
enum status verdict_error(const Postern__V1__Verdict *verdict, struct error *err);
/* "10.1.2.3 -> 198.51.100.7:1046 ftp": what a question or test is about */
void question_tell(const Postern__V1__PolicyTest *question, char *text, size_t size);

#endif
