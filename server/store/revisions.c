/* Revisions of the policy document: a listing without the documents, or one of them whole. */
#include "server/store/query.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/sqlite.h"

#define STEP_BYTES (16U * 1024 * 1024) /* about 30 ms, most of it the hash */

enum status revision_from_row(
	struct sqlite3_stmt *stmt, struct revision_record *ret_revision, struct error *err)
{
	struct revision_record revision = {.number = (uint64_t)column_int(stmt, 0)};
	size_t size;
	column_copy(stmt, 1, revision.author, sizeof revision.author);
	revision.time_us = column_int(stmt, 2);
	column_copy(stmt, 3, revision.message, sizeof revision.message);
	revision.rolled_back_to = (uint64_t)column_int(stmt, 4);
	revision.confirm_until_us = column_int(stmt, 5);
	revision.rules = (uint64_t)column_int(stmt, 6);
	const uint8_t *hash = column_blob(stmt, 7, &size);
	if (size != sizeof revision.hash)
		return error_set(err, STATUS_DATA_LOSS,
			"revision %llu: its hash is damaged: run `postern audit verify`",
			(unsigned long long)revision.number);
	memcpy(revision.hash, hash, size);
	*ret_revision = revision;
	return STATUS_OK;
}

void revision_page_fini(struct revision_page *page)
{
	for (size_t i = 0; i < page->count; i++)
		free(page->revisions[i].document);
	page->count = 0;
}

static enum status read_rows(struct sqlite3 *db, const struct store_revision_query *query,
	struct revision_page *page, struct error *err)
{
	struct sqlite3_stmt *stmt = NULL;
	uint32_t limit =
		query->limit && query->limit < STORE_PAGE_MAX ? query->limit : STORE_PAGE_MAX;
	enum status status = db_prepare(db,
		query->number ? "SELECT " REVISION_COLUMNS ", length(document) FROM revisions "
				"WHERE number = ?1 LIMIT ?2"
			      : "SELECT " REVISION_COLUMNS ", length(document) FROM revisions "
				"WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
		&stmt, err);
	if (status)
		return status;
	bind_int(stmt, 1,
		query->number           ? (int64_t)query->number
			: query->before ? (int64_t)query->before
					: INT64_MAX);
	bind_int(stmt, 2, limit);
	while (!status && stmt_row(db, stmt, "revisions", &status, err)) {
		struct revision_record *revision = &page->revisions[page->count];
		status = revision_from_row(stmt, revision, err);
		if (status)
			break;
		revision->document_size = (size_t)column_int(stmt, 8);
		page->count++;
	}
	db_finalize(stmt);
	return status;
}

static enum status changed(const struct revision_record *revision, struct error *err)
{
	return error_set(err, STATUS_DATA_LOSS,
		"revision %llu: its document is not the one that was applied: run `postern audit "
		"verify`",
		(unsigned long long)revision->number);
}

/* The next piece of the one document. */
static enum status read_piece(struct sqlite3 *db, struct revision_page *page,
	struct revision_record *revision, struct error *err)
{
	struct sqlite3_blob *blob = NULL;
	uint8_t hash[RECORD_DOCUMENT_HASH_SIZE];
	size_t size = 0, left = revision->document_size - page->read;
	size_t piece = left < STEP_BYTES ? left : STEP_BYTES;
	enum status status = blob_open(
		db, "revisions", "document", (int64_t)revision->number, &blob, &size, err);
	if (status)
		return status == STATUS_NOT_FOUND ? changed(revision, err) : status;
	if (size != revision->document_size)
		status = changed(revision, err);
	else
		status = blob_read(
			db, blob, page->read, revision->document + page->read, piece, err);
	blob_close(blob);
	if (status)
		return status;
	digest_add(&page->digest, revision->document + page->read, piece);
	page->read += piece;
	page->done = page->read == revision->document_size;
	if (!page->done)
		return STATUS_OK;
	digest_end(&page->digest, hash);
	return memcmp(hash, revision->hash, sizeof hash) == 0 ? STATUS_OK : changed(revision, err);
}

static enum status begin(struct sqlite3 *db, const struct store_revision_query *query,
	struct revision_page *page, struct error *err)
{
	enum status status = read_rows(db, query, page, err);
	page->done = !query->number || page->count == 0;
	if (status || page->done)
		return status;
	size_t size = page->revisions[0].document_size;
	page->revisions[0].document = malloc(size ? size : 1);
	digest_init(&page->digest);
	return page->revisions[0].document
		? STATUS_OK
		: error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

enum status read_revisions(struct sqlite3 *db, const struct store_revision_query *query,
	struct revision_page *page, struct error *err)
{
	enum status status = page->count ? STATUS_OK : begin(db, query, page, err);
	if (!status && !page->done)
		status = read_piece(db, page, &page->revisions[0], err);
	if (status)
		revision_page_fini(page);
	return status;
}
