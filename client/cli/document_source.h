/* The policy document that a command is about: read from a file, or the one in force. */
#ifndef POSTERN_CLI_DOCUMENT_SOURCE_H
#define POSTERN_CLI_DOCUMENT_SOURCE_H

#include "client/cli/cli.h"
#include "client/text/message.h"
#include "postern/v1/revisions.pb-c.h"

#define DOCUMENT_PIECE_MAX                                                                         \
	(512U * 1024) /* of a document in one message; the server's limit too                      \
		       */

struct document_source { /* points to itself */
	Postern__V1__DocumentSource message; /* for the request; both empty: the one in force */
	struct message_file *file; /* NULL: the one in force */
	uint8_t *packed;
	size_t size;
	char upload[ID_TEXT_SIZE];
};

/* Reads what -f says (nothing without it), connects, and uploads what is too large for a message. A
 * connection that is lost meanwhile is made again, and the upload with it, until the deadline. The
 * deadline counts from when the file was read. document_source_fini also after a failure. */
enum status document_source_open(
	struct cli *cli, struct document_source *source, struct error *err);
void document_source_fini(struct document_source *source);

/* "-" is a file of standard input, NULL too. */
enum status document_read(const char *path, struct message_file **ret_file, struct error *err);

/* What the server finds wrong in the document gets its place, FILE:LINE:COLUMN; what it finds wrong
 * in a question gets the option that said it. Returns the error's status. */
enum status document_source_name_place(const struct document_source *source, struct error *err);

/* The document of a revision, 0 = the one in force, from the server. The caller frees both
 * (protobuf_c_message_free_unpacked); ret_revision may be NULL. */
enum status document_fetch(struct cli *cli, uint64_t number,
	Postern__V1__PolicyDocument **ret_document, Postern__V1__Revision **ret_revision,
	struct error *err);

#endif
