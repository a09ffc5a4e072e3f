#include "server/service/uploads.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/document/document.h"

#define PIECE_MAX (512U * 1024)
#define UPLOADS_MAX 8 /* of different principals */
#define ALL_MAX (2 * (size_t)DOCUMENT_SIZE_MAX)
#define FORGOTTEN_US (120 * INT64_C(1000000))

struct upload {
	char principal[RECORD_NAME_SIZE];
	struct id id;
	uint8_t *bytes; /* NULL = this place is free */
	size_t size, room;
	int64_t touched_us;
};

struct uploads {
	struct loop *loop;
	struct loop_timer clock;
	struct upload items[UPLOADS_MAX];
};

static void discard(struct upload *upload)
{
	free(upload->bytes);
	*upload = (struct upload){0};
}

static void set_clock(struct uploads *uploads);

static void on_clock(void *arg)
{
	struct uploads *uploads = arg;
	int64_t now = clock_mono_us();
	for (size_t i = 0; i < UPLOADS_MAX; i++)
		if (uploads->items[i].bytes && now - uploads->items[i].touched_us >= FORGOTTEN_US)
			discard(&uploads->items[i]);
	set_clock(uploads);
}

static void set_clock(struct uploads *uploads)
{
	int64_t next = CLOCK_NEVER;
	for (size_t i = 0; i < UPLOADS_MAX; i++) {
		const struct upload *upload = &uploads->items[i];
		if (upload->bytes && upload->touched_us + FORGOTTEN_US < next)
			next = upload->touched_us + FORGOTTEN_US;
	}
	if (next == CLOCK_NEVER)
		loop_timer_clear(uploads->loop, &uploads->clock);
	else
		loop_timer_set(uploads->loop, &uploads->clock, next, on_clock, uploads);
}

struct uploads *uploads_new(struct loop *loop)
{
	struct uploads *uploads = calloc(1, sizeof *uploads);
	if (uploads)
		uploads->loop = loop;
	return uploads;
}

void uploads_free(struct uploads *uploads)
{
	if (!uploads)
		return;
	loop_timer_clear(uploads->loop, &uploads->clock);
	for (size_t i = 0; i < UPLOADS_MAX; i++)
		discard(&uploads->items[i]);
	free(uploads);
}

static struct upload *find(struct uploads *uploads, const char *principal)
{
	for (size_t i = 0; i < UPLOADS_MAX; i++)
		if (uploads->items[i].bytes && strcmp(uploads->items[i].principal, principal) == 0)
			return &uploads->items[i];
	return NULL;
}

static size_t size_of_all(const struct uploads *uploads)
{
	size_t size = 0;
	for (size_t i = 0; i < UPLOADS_MAX; i++)
		size += uploads->items[i].room;
	return size;
}

static enum status begin(struct uploads *uploads, const char *principal, const struct id *id,
	struct upload **ret_upload, struct error *err)
{
	struct upload *upload = find(uploads, principal);
	if (upload)
		discard(upload);
	for (size_t i = 0; i < UPLOADS_MAX && !upload; i++)
		if (!uploads->items[i].bytes)
			upload = &uploads->items[i];
	if (!upload)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"%d other documents are being uploaded: try again in a few minutes",
			UPLOADS_MAX);
	upload->bytes = malloc(PIECE_MAX);
	if (!upload->bytes)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	upload->room = PIECE_MAX;
	upload->id = *id;
	upload->touched_us = clock_mono_us();
	set_clock(uploads);
	copy_text(upload->principal, sizeof upload->principal, principal);
	*ret_upload = upload;
	return STATUS_OK;
}

static enum status make_room(
	const struct uploads *uploads, struct upload *upload, size_t more, struct error *err)
{
	size_t room = upload->room;
	if (more > DOCUMENT_SIZE_MAX - upload->size)
		return error_field(err, "data",
			"data: the document is larger than %u bytes: take long lists of addresses "
			"from a feed",
			DOCUMENT_SIZE_MAX);
	if (more <= room - upload->size)
		return STATUS_OK;
	while (room - upload->size < more)
		room *= 2;
	if (room > DOCUMENT_SIZE_MAX)
		room = DOCUMENT_SIZE_MAX;
	if (room - upload->room > ALL_MAX - size_of_all(uploads))
		return error_set(err, STATUS_RESOURCE_EXHAUSTED,
			"other large documents are being uploaded: try again in a few minutes");
	uint8_t *grown = realloc(upload->bytes, room);
	if (!grown)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	upload->bytes = grown;
	upload->room = room;
	return STATUS_OK;
}

/* The newest piece once more: its answer was lost. */
static bool is_repeated(const struct upload *upload, const Postern__V1__UploadRequest *piece)
{
	return piece->data.len > 0 && piece->data.len <= upload->size &&
		piece->offset == upload->size - piece->data.len &&
		memcmp(upload->bytes + piece->offset, piece->data.data, piece->data.len) == 0;
}

enum status uploads_add(struct uploads *uploads, const char *principal,
	const Postern__V1__UploadRequest *piece, uint64_t *ret_size, struct error *err)
{
	struct upload *upload = find(uploads, principal);
	enum status status = STATUS_OK;
	struct id id;
	if (!id_parse(piece->upload, &id) || id_is_zero(&id))
		return error_field(err, "upload", "upload: \"%.60s\" is not a UUID", piece->upload);
	if (piece->data.len > PIECE_MAX)
		return error_field(err, "data", "data: %zu bytes, at most %u in a piece",
			piece->data.len, PIECE_MAX);
	bool begins = !upload || !id_equal(&upload->id, &id);
	if (!begins && is_repeated(upload, piece)) {
		*ret_size = upload->size;
		return STATUS_OK;
	}
	if (piece->offset != (begins ? 0 : upload->size))
		return error_field(err, "offset",
			"offset: %llu, but %zu bytes are there: begin again from 0, with a new id",
			(unsigned long long)piece->offset, begins ? (size_t)0 : upload->size);
	if (begins)
		status = begin(uploads, principal, &id, &upload, err);
	if (!status)
		status = make_room(uploads, upload, piece->data.len, err);
	if (status)
		return status;
	if (piece->data.len)
		memcpy(upload->bytes + upload->size, piece->data.data, piece->data.len);
	upload->size += piece->data.len;
	upload->touched_us = clock_mono_us();
	set_clock(uploads);
	*ret_size = upload->size;
	return STATUS_OK;
}

static enum status take_inline(const ProtobufCBinaryData *document, uint8_t **ret_packed,
	size_t *ret_size, struct error *err)
{
	uint8_t *packed = malloc(document->len);
	if (!packed)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	memcpy(packed, document->data, document->len);
	*ret_packed = packed;
	*ret_size = document->len;
	return STATUS_OK;
}

enum status uploads_take(struct uploads *uploads, const char *principal,
	const Postern__V1__DocumentSource *source, uint8_t **ret_packed, size_t *ret_size,
	struct error *err)
{
	struct id id;
	*ret_packed = NULL;
	*ret_size = 0;
	if (!source || (source->upload[0] == '\0' && source->document.len == 0))
		return STATUS_OK;
	if (source->document.len > 0 && source->upload[0])
		return error_field(err, "source", "source: a document or an upload, not both");
	if (source->document.len > 0)
		return take_inline(&source->document, ret_packed, ret_size, err);
	struct upload *upload = find(uploads, principal);
	if (!id_parse(source->upload, &id) || !upload || !id_equal(&upload->id, &id))
		return error_field(err, "source.upload",
			"source.upload: no upload of yours has this id: upload it again");
	*ret_packed = upload->bytes;
	*ret_size = upload->size;
	*upload = (struct upload){0};
	return STATUS_OK;
}
