/* Policy documents that arrive in pieces. Loop thread only. */
#ifndef POSTERN_SERVER_SERVICE_UPLOADS_H
#define POSTERN_SERVER_SERVICE_UPLOADS_H

#include "server/service/service.h"

#include "postern/v1/revisions.pb-c.h"

struct uploads;

struct uploads *uploads_new(struct loop *loop); /* NULL: memory */
void uploads_free(struct uploads *uploads); /* accepts NULL */
/* A piece, from this principal. The size that is there now. */
enum status uploads_add(struct uploads *uploads, const char *principal,
	const Postern__V1__UploadRequest *piece, uint64_t *ret_size, struct error *err);
/* The bytes of a DocumentSource, malloc'd; NULL (and STATUS_OK): the document in force. An upload
 * is gone afterwards. */
enum status uploads_take(struct uploads *uploads, const char *principal,
	const Postern__V1__DocumentSource *source, uint8_t **ret_packed, size_t *ret_size,
	struct error *err);

#endif
