/* An upload belongs to a principal, not to a connection, but which of its pieces a lost connection
 * took with it nobody knows: it is begun anew, under a new id. The answer to the last piece says
 * that the server has it whole. */
#include "client/cli/document_source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const ProtobufCServiceDescriptor *const service = &postern__v1__revisions__descriptor;

enum status document_read(const char *path, struct message_file **ret_file, struct error *err)
{
	return message_read(path != NULL ? path : "-", &postern__v1__policy_document__descriptor,
		ret_file, err);
}

/* ---- upload ---- */

static bool note_size(void *arg, const ProtobufCMessage *message)
{
	*(uint64_t *)arg = ((const Postern__V1__UploadReply *)message)->size;
	return true;
}

static enum status upload_once(struct cli *cli, struct document_source *source, struct error *err)
{
	Postern__V1__UploadRequest request = POSTERN__V1__UPLOAD_REQUEST__INIT;
	uint64_t held = 0;
	struct client_call call = {
		.service = service,
		.method = "Upload",
		.request = &request.base,
		.deadline_us = cli->deadline_us,
		.on_message = note_size,
		.arg = &held,
	};
	struct id id = id_new();

	id_format(&id, source->upload);
	request.upload = source->upload;
	for (size_t at = 0; at < source->size; at += request.data.len) {
		size_t left = source->size - at;
		request.offset = at;
		request.data.data = source->packed + at;
		request.data.len = left < DOCUMENT_PIECE_MAX ? left : DOCUMENT_PIECE_MAX;
		enum status status = client_call(cli->client, &call, err);
		if (status != STATUS_OK)
			return status;
		if (held != at + request.data.len)
			return error_set(err, STATUS_INTERNAL,
				"the server holds %" PRIu64
				" bytes of the document where %zu were sent: try again",
				held, at + request.data.len);
	}
	return STATUS_OK;
}

static enum status upload(struct cli *cli, struct document_source *source, struct error *err)
{
	for (;;) {
		struct error why = {0};
		enum status status = upload_once(cli, source, err);

		if (status == STATUS_OK || !client_was_lost(cli->client, err))
			return status;
		status = client_reconnect(cli->client, cli->deadline_us, &why);
		if (status != STATUS_OK) {
			*err = why;
			return status;
		}
	}
}

/* ---- a source ---- */

static enum status pack(struct document_source *source, struct error *err)
{
	source->size = protobuf_c_message_get_packed_size(source->file->message);
	source->packed = malloc(source->size + 1);
	if (source->packed == NULL)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	protobuf_c_message_pack(source->file->message, source->packed);
	return STATUS_OK;
}

enum status document_source_open(struct cli *cli, struct document_source *source, struct error *err)
{
	const char *path = args_value(&cli->args, "file");

	memset(source, 0, sizeof(*source));
	postern__v1__document_source__init(&source->message);
	if (path == NULL)
		return cli_connect(cli, err);
	enum status status = document_read(path, &source->file, err);
	if (status == STATUS_OK)
		status = pack(source, err);
	if (status == STATUS_OK && source->size == 0)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%.100s: an empty document: one that denies everything has a protocol rule "
			"with 'action: deny' and nothing else",
			path);
	if (status == STATUS_OK)
		status = cli_start_clock(cli, err);
	if (status == STATUS_OK)
		status = cli_connect(cli, err);
	if (status != STATUS_OK)
		return status;
	if (source->size <= DOCUMENT_PIECE_MAX) {
		source->message.document.data = source->packed;
		source->message.document.len = source->size;
		return STATUS_OK;
	}
	status = upload(cli, source, err);
	source->message.upload = source->upload;
	return status;
}

void document_source_fini(struct document_source *source)
{
	message_file_free(source->file);
	free(source->packed);
	source->file = NULL;
	source->packed = NULL;
}

enum status document_source_name_place(const struct document_source *source, struct error *err)
{
	if (source->file != NULL && err->field[0] != '\0')
		message_name_place(source->file, err);
	return err->status;
}

/* ---- a revision's document ---- */

struct fetching {
	Postern__V1__Revision *revision;
	uint8_t *packed;
	size_t size;
	enum status status;
	struct error *err;
};

static enum status begin_fetch(struct fetching *fetching, const Postern__V1__Revision *revision)
{
	size_t size = protobuf_c_message_get_packed_size(&revision->base);

	if (revision->document_size > MESSAGE_SIZE_MAX)
		return error_set(fetching->err, STATUS_RESOURCE_EXHAUSTED,
			"revision %" PRIu64 " has %" PRIu64 " bytes: more than this program takes",
			revision->number, revision->document_size);
	uint8_t *bytes = malloc(size + 1);
	fetching->packed = malloc(revision->document_size + 1);
	if (bytes != NULL) {
		protobuf_c_message_pack(&revision->base, bytes);
		fetching->revision = postern__v1__revision__unpack(NULL, size, bytes);
	}
	free(bytes);
	if (fetching->packed == NULL || fetching->revision == NULL)
		return error_set(fetching->err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	return STATUS_OK;
}

static bool take_piece(void *arg, const ProtobufCMessage *message)
{
	struct fetching *fetching = arg;
	const Postern__V1__DocumentPiece *piece = (const Postern__V1__DocumentPiece *)message;

	if (piece->revision != NULL && fetching->revision == NULL)
		fetching->status = begin_fetch(fetching, piece->revision);
	if (fetching->status != STATUS_OK)
		return false;
	if (fetching->revision == NULL ||
		piece->data.len > fetching->revision->document_size - fetching->size) {
		fetching->status = error_set(fetching->err, STATUS_INTERNAL,
			"the server sent another document than it announced");
		return false;
	}
	if (piece->data.len != 0)
		memcpy(fetching->packed + fetching->size, piece->data.data, piece->data.len);
	fetching->size += piece->data.len;
	return true;
}

static enum status unpack_fetched(
	struct fetching *fetching, Postern__V1__PolicyDocument **ret_document, struct error *err)
{
	if (fetching->revision == NULL || fetching->size != fetching->revision->document_size)
		return error_set(
			err, STATUS_INTERNAL, "the server's document ended early: try again");
	*ret_document =
		postern__v1__policy_document__unpack(NULL, fetching->size, fetching->packed);
	if (*ret_document == NULL)
		return error_set(err, STATUS_INTERNAL,
			"revision %" PRIu64 " cannot be read: was it made by a newer server?",
			fetching->revision->number);
	return STATUS_OK;
}

enum status document_fetch(struct cli *cli, uint64_t number,
	Postern__V1__PolicyDocument **ret_document, Postern__V1__Revision **ret_revision,
	struct error *err)
{
	Postern__V1__RevisionShowRequest request = POSTERN__V1__REVISION_SHOW_REQUEST__INIT;
	struct fetching fetching = {.err = err};
	struct client_call call = {
		.service = service,
		.method = "Show",
		.request = &request.base,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = take_piece,
		.arg = &fetching,
	};

	request.revision = number;
	enum status status = cli_connect(cli, err);
	if (status == STATUS_OK)
		status = client_call(cli->client, &call, err);
	if (status == STATUS_OK)
		status = fetching.status;
	if (status == STATUS_OK)
		status = unpack_fetched(&fetching, ret_document, err);
	if (status == STATUS_OK && ret_revision != NULL)
		*ret_revision = fetching.revision;
	else if (fetching.revision != NULL)
		postern__v1__revision__free_unpacked(fetching.revision, NULL);
	free(fetching.packed);
	return status;
}
