/* Revisions against the journal: the hash that an entry has of its document vouches for the row,
 * which decides who is let in. Documents may be large: they are hashed in pieces, so that other
 * reads go on between them. */
#include "server/store/verify.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/sqlite.h"

#define PIECE (256U * 1024)

bool verify_vouches(const struct entry *entry)
{
	return entry->kind == ENTRY_POLICY_APPLIED || entry->kind == ENTRY_POLICY_ROLLED_BACK;
}

void verify_document_begin(struct verify_walk *walk, const struct entry *entry)
{
	struct verify_document *document = &walk->document;
	document->active = true;
	document->sequence = walk->chain.sequence;
	document->revision = entry->revision;
	document->read = 0;
	memcpy(document->hash, entry->document_hash, sizeof document->hash);
	digest_init(&document->digest);
	walk->revisions++;
	if (entry->revision > walk->last_revision)
		walk->last_revision = entry->revision;
}

static enum status hash_pieces(struct sqlite3 *db, struct sqlite3_blob *blob, size_t size,
	struct verify_document *document, size_t *budget, struct error *err)
{
	uint8_t *piece = malloc(PIECE);
	enum status status = STATUS_OK;
	if (!piece)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	while (!status && document->read<size && * budget> 0) {
		size_t length = size - document->read;
		if (length > PIECE)
			length = PIECE;
		status = blob_read(db, blob, document->read, piece, length, err);
		if (status)
			break;
		digest_add(&document->digest, piece, length);
		document->read += length;
		*budget -= length < *budget ? length : *budget;
	}
	free(piece);
	return status;
}

/* The whole document was hashed; the row's own hash must be the same, readers go by it. */
static enum status compare(struct sqlite3 *db, struct verify_walk *walk, struct error *err)
{
	struct verify_document *document = &walk->document;
	struct sqlite3_stmt *stmt = NULL;
	uint8_t hash[DIGEST_SIZE];
	size_t size;
	bool same = false;
	document->active = false;
	digest_end(&document->digest, hash);
	if (memcmp(hash, document->hash, sizeof hash) != 0) {
		verify_fault(walk, document->sequence,
			"changed: the document of revision %llu is not the one whose hash this "
			"entry has",
			(unsigned long long)document->revision);
		return STATUS_OK;
	}
	enum status status =
		db_prepare(db, "SELECT hash FROM revisions WHERE number = ?1", &stmt, err);
	if (status)
		return status;
	bind_int(stmt, 1, (int64_t)document->revision);
	if (stmt_row(db, stmt, "revisions", &status, err)) {
		const uint8_t *bytes = column_blob(stmt, 0, &size);
		same = size == sizeof hash && memcmp(bytes, hash, size) == 0;
	}
	db_finalize(stmt);
	if (!status && !same)
		verify_fault(walk, document->sequence,
			"changed: column hash of revision %llu is not that of its document",
			(unsigned long long)document->revision);
	return status;
}

enum status verify_document_step(
	struct sqlite3 *db, struct verify_walk *walk, size_t *budget, struct error *err)
{
	struct verify_document *document = &walk->document;
	struct sqlite3_blob *blob = NULL;
	size_t size = 0;
	struct error cause;
	enum status status = blob_open(
		db, "revisions", "document", (int64_t)document->revision, &blob, &size, &cause);
	if (status == STATUS_NOT_FOUND) {
		document->active = false;
		verify_fault(walk, document->sequence,
			"missing: the document of revision %llu is gone",
			(unsigned long long)document->revision);
		return STATUS_OK;
	}
	if (status) {
		*err = cause;
		return status;
	}
	status = hash_pieces(db, blob, size, document, budget, err);
	blob_close(blob);
	return !status && document->read >= size ? compare(db, walk, err) : status;
}

enum status verify_documents_end(struct sqlite3 *db, struct verify_walk *walk, struct error *err)
{
	int64_t newest = 0, count = 0;
	enum status status =
		db_number(db, "SELECT coalesce(max(number), 0) FROM revisions", &newest, err);
	if (!status)
		status = db_number(db, "SELECT count(*) FROM revisions", &count, err);
	if (status)
		return status;
	if ((uint64_t)newest > walk->last_revision)
		verify_fault(walk, walk->chain.sequence + 1,
			"out of place: revision %lld is in no entry of the journal",
			(long long)newest);
	else if ((uint64_t)count > walk->revisions)
		verify_fault(walk, walk->chain.sequence + 1,
			"out of place: there are %lld revisions, the journal has %llu",
			(long long)count, (unsigned long long)walk->revisions);
	return STATUS_OK;
}
